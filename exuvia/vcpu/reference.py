"""The plain-Python engine: one x86 instruction at a time, straight from its text. Slow and obvious; the fast engines must agree with it."""

from __future__ import annotations

import time
from functools import cache
from typing import Protocol

from exuvia.dsl.record import FIELDS, RECORD
from exuvia.dsl.trace import Flags, Place
from exuvia.dsl.values import Node
from exuvia.isa.x86 import decode_tables
from exuvia.isa.x86.concrete import Fault
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.decode import DECODE, READS, RESULT_SLOT
from exuvia.isa.x86.flags import FLAG_RULES
from exuvia.isa.x86.forms import Row
from exuvia.isa.x86.state import CS, GP, SS, SS_FAULT, UD, layout, mode_facts
from exuvia.vcpu.evaluate import Evaluator, call

PAGE = 4096
CODE_AT, RECORD_AT, TABLES_AT = 0, 64, 128  # the decoder's little memory


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
    """What `leave` goes to, such as `concrete.Processor`."""

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

    def __init__(self, mode: int, features: frozenset[str] | None = None) -> None:
        self.tables = decode_tables.tables(mode, features)
        self.memory = bytearray(TABLES_AT) + self.tables.blob
        facts = mode_facts(mode)
        self.code, self.stack, self.flat = int(facts["code"]), int(facts["stack"]), bool(facts["flat"])
        self.traces: dict[int, Cpu] = {}

    def load(self, pointer: int, size: int) -> int:
        return int.from_bytes(self.memory[pointer : pointer + size], "little")

    def store(self, pointer: int, size: int, value: int) -> None:
        self.memory[pointer : pointer + size] = value.to_bytes(size, "little")

    def decode(self, code: bytes, offset: int) -> tuple[int, dict[str, int]]:
        """The decoder's result, and the record's fields by name, for an instruction at `offset` in its page."""
        self.memory[CODE_AT : CODE_AT + READS] = code[:READS].ljust(READS, b"\0")
        result = call(DECODE.trace, self, (CODE_AT, RECORD_AT, TABLES_AT, offset))  # type: ignore[arg-type]
        record = self.memory[RECORD_AT : RECORD_AT + RECORD]
        fields = {}
        for name, (at, w, is_signed) in FIELDS.items():
            fields[name] = int.from_bytes(record[at : at + w // 8], "little", signed=is_signed)
        return result, fields

    def trace(self, slot: int) -> Cpu:
        """The text of a handler's instruction, read once."""
        if slot not in self.traces:
            row, variant = self.tables.row(slot)
            self.traces[slot] = row.trace(variant, self.code, self.stack, self.flat)
        return self.traces[slot]

    def row(self, slot: int) -> tuple[Row, int]:
        """The row and variant of a slot."""
        return self.tables.row(slot)


def canonical(linear: int) -> bool:
    """Are bits 63 to 47 all the same?"""
    return (linear >> 47) + 1 & (1 << 17) - 2 == 0


@cache
def decoder(mode: int, features: frozenset[str] | None = None) -> Decoder:
    """One decoder for each mode and set of features; its tables take a moment to make."""
    return Decoder(mode, features)


class Reference:
    """A processor. `state` is writable, laid out by `isa.x86.state.layout`; its word `pc` is the linear address of the next instruction."""

    def __init__(
        self,
        state: bytearray | memoryview,
        memory: Memory,
        ports: Ports | None = None,
        rare: Rare | None = None,
        features: frozenset[str] | None = None,
    ) -> None:
        self.state, self.memory, self.ports, self.rare, self.features = memoryview(state).cast("B"), memory, ports, rare, features
        self.fields: dict[str, int] = {}
        self.code = 64

    # -- the state
    def read(self, file: str, slot: int = 0, w: int = 64) -> int:
        """w bits of a register."""
        at = layout.offset(file, slot)
        return int.from_bytes(self.state[at : at + w // 8], "little")

    def write(self, file: str, slot: int, w: int, value: int) -> None:
        """Write w bits of a register."""
        at = layout.offset(file, slot)
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
        """A flag as the state's two words have it."""
        if name in FLAG_RULES.words:
            return self.get(FLAG_RULES.words[name])
        return self.meaning(Flags("words", ()), [self.read("result"), self.read("aux", w=32)], name)

    def meaning(self, flags: Flags, args: list[int], name: str) -> int:
        """What a condition is when `flags` were set, with these values of the rule's arguments."""
        widths = tuple(a.w for a in flags.args) or (64, 32)
        return Arguments(self, args).value(FLAG_RULES.meaning(flags.rule, widths, name))

    def place_of(self, which: str) -> int:
        """this_pc, next_pc or target: linear addresses."""
        at = self.read("page") + self.fields["off"]
        if which != "this_pc":
            at += self.fields["len"]
        if which == "target":
            at += self.fields["imm"]
        return at & (1 << (64 if self.code == 64 else 32)) - 1

    def translate(self, linear: int, access: str, size: int, seg: int | str) -> int:
        """A pointer; a non-canonical address is #SS(0) on the stack, else #GP(0) (SDM vol. 1, 3.3.7.1)."""
        if self.code == 64 and not all(canonical(x) for x in (linear, linear + size - 1)):
            stack = seg == SS or seg == "seg" and self.fields["seg"] == SS
            raise Fault(SS_FAULT if stack else GP, 0)
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

    def within(self, here: int, length: int) -> None:
        """#GP(0) where code ends beyond its segment's limit."""
        offset = here - self.read("seg_base", CS) & 0xFFFFFFFF
        limit = self.read("seg_limit", CS)
        if offset > limit or (offset + length - 1 & 0xFFFFFFFF) > limit:
            raise Fault(GP, 0)

    def step(self) -> None:
        """Do one instruction, or one element of a repeated string instruction.

        Raises Fault with nothing committed; Left and Entered where the instruction goes on elsewhere.
        """
        here = self.read("pc")
        d = decoder(self.read("mode"), self.features)
        self.code = d.code
        if not d.flat:
            self.within(here, 1)
        result, self.fields = self.fetch(d, here)
        if not d.flat:
            self.within(here, self.fields["len"])
        self.write("page", 0, 64, here & ~(PAGE - 1))
        trace = d.trace(result >> RESULT_SLOT)
        e = Evaluator(self)
        end = e.run(trace.body)
        if end is None:
            return self.commit(e, trace.env, trace.flags)
        kind = end.effect.op
        if kind == "raise":
            raise Fault(end.effect.attr, end.args[0] if end.args else None)
        if kind == "retry":
            return None
        at_end = end.effect is trace.body[-1]
        self.commit(e, *((trace.env, trace.flags) if at_end else (end.env, end.flags)))
        if kind == "enter":
            raise Entered(end.effect.attr)
        if end.effect.attr == "undefined" and self.rare is None:
            self.write("pc", 0, 64, here)
            raise Fault(UD)
        if self.rare is None:
            raise Left(end.effect.attr, tuple(end.args))
        return self.rare.perform(end.effect.attr, tuple(end.args), here)

    def commit(self, e: Evaluator, env: dict[Place, Node], flags: Flags | None) -> None:
        """The register writes, in order: of two to the same register the later wins."""
        writes = [(place, e.value(n)) for place, n in env.items() if place[0] != "var"]
        words = {}
        if flags is not None:
            args = [e.value(a) for a in flags.args]
            words = {name: self.meaning(flags, args, name) for name in FLAG_RULES.words}
        pc = self.place_of("next_pc")
        for place, v in writes:
            if place[0] == "pc":
                pc = v
            else:
                self.write(place[0], self.slot(place), place[2], v)
        for name, v in words.items():
            self.write(name, 0, FLAG_RULES.words[name][2], v)
        self.write("pc", 0, 64, pc)


class Arguments(Evaluator):
    """A flag rule's expression, over the values of its arguments."""

    def __init__(self, machine: Reference, args: list[int]) -> None:
        super().__init__(machine, args)

    def value_arg(self, n: Node) -> int:
        return self.params[int(n.attr)]


__all__ = ["Decoder", "Entered", "Fault", "Left", "Memory", "Reference", "decoder"]
