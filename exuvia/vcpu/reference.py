"""The plain-Python engine: one instruction at a time, straight from its text. Slow and obvious; the fast engines must agree with it."""

from __future__ import annotations

import time
from typing import Protocol

from exuvia.dsl.architecture import Architecture
from exuvia.dsl.processor import Fault
from exuvia.dsl.record import FIELDS, RECORD
from exuvia.dsl.trace import FlagRules, Flags, Place, Trace
from exuvia.dsl.values import Node
from exuvia.vcpu.evaluate import Evaluator, call

PAGE = 4096
CODE_AT, RECORD_AT, TABLES_AT = 0, 64, 128  # the decoder's little memory
READS = 40  # bytes of code that a decoder may look at


class Memory(Protocol):
    """Guest memory by linear address. All raise `Fault` where the access faults; pointers are theirs to choose."""

    def fetch(self, linear: int, size: int) -> bytes:
        """Up to `size` bytes of code, fewer where the next page cannot be fetched; raises only for the first byte."""

    def translate(self, linear: int, size: int, write: bool, system: bool) -> int:
        """A pointer to `size` bytes that may be read, or written; `system` accesses are the supervisor's at any CPL."""

    def load(self, pointer: int, size: int) -> int: ...
    def store(self, pointer: int, size: int, value: int) -> None: ...


class Ports(Protocol):
    """The port space; sizes are 1, 2 and 4 bytes."""

    def read(self, address: int, size: int) -> int: ...
    def write(self, address: int, size: int, value: int) -> None: ...


class Rare(Protocol):
    """What `leave` goes to, such as an architecture's `Processor`."""

    def perform(self, name: str, args: tuple[int, ...], here: int) -> None: ...


class Left(Exception):
    """The instruction left to a function that this engine was given no `Rare` for. Its register writes are committed."""

    def __init__(self, name: str, args: tuple[int, ...]) -> None:
        super().__init__(f"{name}{args}")
        self.name, self.args_given = name, args


class Entered(Exception):
    """The instruction goes on with a routine of the processor, such as the delivery of an interrupt."""

    def __init__(self, routine: str) -> None:
        super().__init__(routine)
        self.routine = routine


class Decoder:
    """The decoder's own text, run on Python integers. Stands in for the machine whose memory it walks."""

    def __init__(self, architecture: Architecture, mode: int, features: frozenset[str]) -> None:
        self.architecture, self.mode = architecture, mode
        self.tables = architecture.tables(mode, features)
        self.memory = bytearray(TABLES_AT) + self.tables.blob
        self.mask = architecture.address_mask(mode)
        self.traces: dict[int, Trace] = {}

    def load(self, pointer: int, size: int) -> int:
        return int.from_bytes(self.memory[pointer : pointer + size], "little")

    def store(self, pointer: int, size: int, value: int) -> None:
        self.memory[pointer : pointer + size] = value.to_bytes(size, "little")

    def decode(self, code: bytes, offset: int) -> tuple[int, dict[str, int]]:
        """The decoder's result, and the record's fields by name, for an instruction at `offset` in its page."""
        self.memory[CODE_AT : CODE_AT + READS] = code[:READS].ljust(READS, b"\0")
        result = call(self.architecture.decode.trace, self, (CODE_AT, RECORD_AT, TABLES_AT, offset))  # type: ignore[arg-type]
        record = self.memory[RECORD_AT : RECORD_AT + RECORD]
        fields = {}
        for name, (at, w, is_signed) in FIELDS.items():
            fields[name] = int.from_bytes(record[at : at + w // 8], "little", signed=is_signed)
        return result, fields

    def trace(self, slot: int) -> Trace:
        """The text of a handler's instruction, read once."""
        if slot not in self.traces:
            self.traces[slot] = self.architecture.form(self.mode, self.tables, slot).trace
        return self.traces[slot]


_decoders: dict[tuple[str, int, frozenset[str]], Decoder] = {}


def decoder(architecture: Architecture, mode: int, features: frozenset[str]) -> Decoder:
    """One decoder for each mode and set of features; its tables take a moment to make."""
    key = architecture.name, mode, features
    if key not in _decoders:
        _decoders[key] = Decoder(architecture, mode, features)
    return _decoders[key]


class Reference:
    """A processor. `state` is writable, laid out by the architecture; its word `pc` is the linear address of the next instruction.

    A subclass says what a raised exception is (`raised`), and what else its architecture looks at (`before`, `translate`)."""

    def __init__(
        self,
        architecture: Architecture,
        state: bytearray | memoryview,
        memory: Memory,
        ports: Ports | None = None,
        rare: Rare | None = None,
        features: frozenset[str] = frozenset(),
    ) -> None:
        self.architecture, self.layout = architecture, architecture.layout
        self.state, self.memory, self.ports, self.rare, self.features = memoryview(state).cast("B"), memory, ports, rare, features
        self.fields: dict[str, int] = {}
        self.rules: FlagRules | None = None  # of the instruction that is being done
        self.mask = -1

    # -- the state
    def read(self, file: str, slot: int = 0, w: int = 64) -> int:
        """w bits of a register."""
        at = self.layout.offset(file, slot)
        return int.from_bytes(self.state[at : at + w // 8], "little")

    def write(self, file: str, slot: int, w: int, value: int) -> None:
        """Write w bits of a register."""
        at = self.layout.offset(file, slot)
        self.state[at : at + w // 8] = value.to_bytes(w // 8, "little")

    def slot(self, place: Place) -> int:
        """The number of a place's slot."""
        return self.fields[place[1]] if isinstance(place[1], str) else place[1]

    # -- what a trace acts on
    def get(self, place: Place) -> int:
        return self.place_of("next_pc") if place[0] == "pc" else self.read(place[0], self.slot(place), place[2])

    def field(self, name: str) -> int:
        return self.fields[name]

    def condition(self, name: str) -> int:
        """A flag as the state's words have it."""
        assert self.rules is not None
        words = self.rules.words
        if name in words:
            return self.get(words[name])
        nodes = tuple(Node("get", place[2], (), place) for place in words.values())
        return self.meaning(Flags("words", nodes), [self.get(place) for place in words.values()], name)

    def meaning(self, flags: Flags, args: list[int], name: str) -> int:
        """What a condition is when `flags` were set, with these values of the rule's arguments."""
        assert self.rules is not None
        return Arguments(self, args).value(self.rules.meaning(flags.rule, tuple(a.w for a in flags.args), name))

    def place_of(self, which: str) -> int:
        """this_pc, next_pc or target: linear addresses."""
        at = self.read("page") + self.fields["off"]
        if which != "this_pc":
            at += self.fields["len"]
        if which == "target":
            at += self.fields["imm"]
        return at & self.mask

    def translate(self, linear: int, access: str, size: int, seg: int | str) -> int:
        """A pointer."""
        return self.memory.translate(linear, size, access == "w", seg == "system")

    def load(self, pointer: int, size: int) -> int:
        return self.memory.load(pointer, size)

    def store(self, pointer: int, size: int, value: int) -> None:
        self.memory.store(pointer, size, value)

    def peek(self, file: str, index: int, w: int) -> int:
        return self.read(file, index, w)

    def poke(self, file: str, index: int, w: int, value: int) -> None:
        self.write(file, index, w, value)

    def io_in(self, port: int, size: int) -> int:
        return self.ports.read(port, size) if self.ports else (1 << 8 * size) - 1

    def io_out(self, port: int, size: int, value: int) -> None:
        if self.ports:
            self.ports.write(port, size, value)

    def counter(self) -> int:
        return time.perf_counter_ns()

    # -- one instruction
    def fetch(self, decoder: Decoder, linear: int) -> tuple[int, dict[str, int]]:
        """The decoder's result and the record. Raises Fault where a byte of the instruction cannot be fetched."""
        code = self.memory.fetch(linear, 15)
        result, fields = decoder.decode(code, linear & PAGE - 1)
        if fields["len"] > len(code) and len(code) < 15:
            self.memory.fetch(linear + len(code), 1)
            raise AssertionError("memory gave fewer bytes of code than it has")
        return result, fields

    def before(self, here: int, length: int) -> None:
        """Raises Fault where code may not stand; asked with the first byte, then with the whole instruction."""

    def raised(self, vector: int, args: list[int]) -> Fault:
        """What the effect `raise` is."""
        raise NotImplementedError

    def step(self) -> None:
        """Do one instruction, or one element of a repeated string instruction.

        Raises Fault with nothing committed; Left and Entered where the instruction goes on elsewhere.
        """
        here = self.read("pc")
        d = decoder(self.architecture, self.read("mode"), self.features)
        self.mask = d.mask
        self.before(here, 1)
        self.fields = self.fetch(d, here)[1]
        self.before(here, self.fields["len"])
        self.write("page", 0, 64, here & ~(PAGE - 1))
        trace = d.trace(self.fields["slot"])
        self.rules = trace.rules
        e = Evaluator(self)
        end = e.run(trace.body)
        if end is None:
            return self.commit(e, trace.env, trace.flags)
        kind = end.effect.op
        if kind == "raise":
            raise self.raised(end.effect.attr, end.args)
        if kind == "retry":
            return None
        at_end = end.effect is trace.body[-1]
        self.commit(e, *((trace.env, trace.flags) if at_end else (end.env, end.flags)))
        if kind == "enter":
            raise Entered(end.effect.attr)
        if self.rare is None:
            raise Left(end.effect.attr, tuple(end.args))
        return self.rare.perform(end.effect.attr, tuple(end.args), here)

    def commit(self, e: Evaluator, env: dict[Place, Node], flags: Flags | None) -> None:
        """The register writes, in order: of two to the same register the later wins."""
        writes = [(place, e.value(n)) for place, n in env.items() if place[0] != "var"]
        words = {}
        if flags is not None:
            args = [e.value(a) for a in flags.args]
            assert self.rules is not None
            words = {name: self.meaning(flags, args, name) for name in self.rules.words}
        pc = self.place_of("next_pc")
        for place, v in writes:
            if place[0] == "pc":
                pc = v
            else:
                self.write(place[0], self.slot(place), place[2], v)
        for name, v in words.items():
            assert self.rules is not None
            self.write(name, 0, self.rules.words[name][2], v)
        self.write("pc", 0, 64, pc)


class Arguments(Evaluator):
    """A flag rule's expression, over the values of its arguments."""

    def __init__(self, machine: Reference, args: list[int]) -> None:
        super().__init__(machine, args)

    def value_arg(self, n: Node) -> int:
        return self.params[int(n.attr)]


__all__ = ["Decoder", "Entered", "Fault", "Left", "Memory", "Reference", "decoder"]
