"""The processor in plain Python, for what is rare: registers by name, and what an engine and an architecture each add.

A text says `leave("name", args...)`; the engine calls `Processor.perform("name", args, here)`. The function of that name is in the
architecture's `rare`, gets the processor and works on values. It raises `Fault`; what it wrote to registers before is taken back then.
An architecture derives its class from `Processor`; an engine puts its own in front of that (vcpu/software.py, `combined`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar

from exuvia.dsl.state import ISA_AT, PAGE_AT, File, Layout

KEPT = ("mode", "pc")  # engine words that a fault takes back
_WORD = struct.Struct("<Q")


class Fault(Exception):
    """An exception of the processor, which `Processor.fault` delivers; an architecture's class says which."""


class Rare(dict[str, Callable[..., None]]):
    """An architecture's plain-Python functions by name; `@rare` registers one under its own, without underscores at its ends."""

    def __call__(self, f: Callable[..., None]) -> Callable[..., None]:
        name = f.__name__.strip("_")
        if name in self:
            raise ValueError(f"two functions are named {name}")
        self[name] = f
        return f

    def arguments(self, name: str) -> int:
        """How many values a function takes, besides the processor."""
        return self[name].__code__.co_argcount - 1


class Registers:
    """A register file by number."""

    def __init__(self, view: memoryview, at: int, stride: int, width: int) -> None:
        self.view, self.at, self.stride, self.size, self.mask = view, at, stride, width // 8, (1 << width) - 1

    def __getitem__(self, i: int) -> int:
        at = self.at + i * self.stride
        return int.from_bytes(self.view[at : at + self.size], "little")

    def __setitem__(self, i: int, value: int) -> None:
        at = self.at + i * self.stride
        self.view[at : at + self.size] = (value & self.mask).to_bytes(self.size, "little")


class Processor:
    """Registers by name over the state's bytes: `cpu.cr0`, `cpu.gpr[3]`. A subclass names its `layout` and `rare`."""

    layout: ClassVar[Layout]
    rare: ClassVar[Rare]
    at: ClassVar[dict[str, int]]
    """Names of words to their indices in `words`, for what is done thousands of times a second."""
    _words: ClassVar[dict[str, int]]
    _files: ClassVar[dict[str, File]]

    def __init_subclass__(cls) -> None:
        if "layout" in vars(cls):
            cls._words = {name: f.offset for name, f in cls.layout.files.items() if f.count == 1}
            cls.at = {name: offset // 8 for name, offset in cls._words.items() if not offset % 8}
            cls._files = {name: f for name, f in cls.layout.files.items() if f.count > 1}

    def __init__(self, state: memoryview, model: Any) -> None:
        """`state` is writable and at least `layout.size` bytes long; it belongs to the engine."""
        d = self.__dict__
        d["state"] = state.cast("B")
        d["model"] = model
        d["here"] = 0
        d["words"] = self.state[: len(self.state) // 8 * 8].cast("Q")
        for name, f in self._files.items():
            d[name] = Registers(self.state, f.offset, f.stride, f.width)

    state: memoryview
    words: memoryview  # the same as 64-bit words
    model: Any
    pc: int
    here: int  # linear address of the instruction that is being done; `pc` is already the next one's
    tick: Any = None  # where an engine does what the interrupt of the processor's timer asks for (dsl/tick.py)

    def __getattr__(self, name: str) -> int:
        try:
            return int(_WORD.unpack_from(self.state, self._words[name])[0])
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._words:
            _WORD.pack_into(self.state, self._words[name], value & 0xFFFFFFFF_FFFFFFFF)
        else:
            self.__dict__[name] = value

    # -- the way in
    def perform(self, name: str, args: tuple[int, ...], here: int) -> None:
        """What an instruction at linear address `here` left to Python. A fault takes back its register writes and is delivered."""
        self.here = here
        saved = self.saved()
        then = self.layout.delayed
        try:
            self.rare[name](self, *args)
            if then is not None and (to := getattr(self, then)):
                self.pc = to
                setattr(self, then, 0)
        except Fault as fault:
            self.take_back(saved)
            self.update_mode()
            self.fault(fault, here)

    def saved(self) -> tuple[bytes, bytes, list[int]]:
        """The registers, for `take_back`."""
        return bytes(self.state[ISA_AT : self.layout.size]), bytes(self.state[:PAGE_AT]), [getattr(self, w) for w in KEPT]

    def take_back(self, saved: tuple[bytes, bytes, list[int]]) -> None:
        """The registers are what they were."""
        self.state[ISA_AT : self.layout.size], self.state[:PAGE_AT] = saved[:2]
        for w, v in zip(KEPT, saved[2], strict=True):
            setattr(self, w, v)

    def reset(self) -> None:
        """Power-on: everything that the architecture declares; the engine resets its own words."""
        for name in self.layout.declared:
            f = self.layout.files[name]
            size = max(f.width // 8, 1)
            if f.stride < size:
                self.state[f.offset : f.offset + f.count * f.stride] = bytes(f.count * f.stride)
                continue
            for at in range(f.offset, f.offset + f.count * f.stride, f.stride):
                self.state[at : at + size] = (f.reset & (1 << f.width) - 1).to_bytes(size, "little")

    # -- what an architecture implements
    def fault(self, fault: Fault, here: int) -> None:
        """Deliver a fault of the instruction at linear address `here`."""
        raise NotImplementedError

    def update_mode(self) -> None:
        """After any change of what they depend on: the words by which engines choose code and TLB."""
        raise NotImplementedError

    def page_fault(self, linear: int) -> Fault:
        """Why there was no translation: the word `walk_error` says."""
        raise NotImplementedError

    def fetch_fault(self, linear: int) -> Fault:
        """What comes of code that stands where neither RAM nor ROM is."""
        raise NotImplementedError

    def between(self) -> bool:
        """Before an instruction, when native code was left: take an interrupt that is welcome, step where something watches each
        instruction. False: look again before going on."""
        raise NotImplementedError

    def signal(self, line: str, level: bool) -> None:
        """Drive an input of the processor, an interrupt line."""
        raise NotImplementedError

    def enter(self, entry: Any) -> None:
        """Take the state in which a loaded image begins (boot/)."""
        raise NotImplementedError

    def describe(self) -> str:
        """The registers, as -d cpu_reset and the monitor show them."""
        raise NotImplementedError

    def limit_fault(self) -> Fault:
        """What comes of an instruction that the code segment ends in; of architectures with `Layout.code_limit`."""
        raise NotImplementedError

    def take_place(self, other: Processor) -> None:
        """What is not in the state is as `other`, the same one of another accelerator, had it."""

    def begin(self, pending: Any) -> None:
        """Deliver next what another accelerator had begun to."""
        raise NotImplementedError

    def port_accessed(self, port: int, size: int) -> None:
        """A port was, of architectures that have them, while `ports_watched`."""

    def offset(self, linear: int) -> int:
        """A linear address as software sees it."""
        return linear

    def stepped(self) -> None:
        """Do one instruction of a page that is watched, by `single_step`."""
        self.single_step()

    def accessed(self, linear: int, size: int, write: bool) -> None:
        """An access to a page that `watch_pages` named."""

    def skip(self, ticks: int) -> None:
        """The host's cycle counter went on by this while virtual time stood: a counter that derives from it did not."""

    def hold_counter(self) -> None:
        """Such a counter begins at 0, and goes on by `skip` alone."""

    # -- what an engine implements
    def single_step(self) -> None:
        """One instruction, whatever it takes."""
        raise NotImplementedError

    def read(self, linear: int, size: int, system: bool = False) -> int:
        """Read 1, 2, 4 or 8 bytes as the current privilege level, or as the supervisor; a Fault where they cannot be."""
        raise NotImplementedError

    def write(self, linear: int, size: int, value: int, system: bool = False) -> None:
        """Write likewise."""
        raise NotImplementedError

    def read_bytes(self, linear: int, length: int) -> bytes:
        """RAM and ROM as the current privilege level reads them, up to where they cannot be read."""
        raise NotImplementedError

    def write_bytes(self, linear: int, data: bytes) -> int:
        """Write RAM likewise: how many bytes could be."""
        raise NotImplementedError

    def read_physical(self, address: int, size: int) -> int:
        """Read guest-physical memory."""
        raise NotImplementedError

    def switch_tlb(self, index: int) -> None:
        """The TLB in force: 0 user, 1 privileged, 2 privileged without user pages, 3 user with every access looked at."""
        raise NotImplementedError

    def flush_tlb(self, everything: bool) -> None:
        """Forget translations; `everything` includes global pages."""
        raise NotImplementedError

    def invalidate_page(self, linear: int) -> None:
        """Forget the translation of one page, in all TLBs."""
        raise NotImplementedError

    def watch_pages(self, data: list[int], code: list[int]) -> None:
        """Have accesses to these linear pages told to `accessed`, and code on those done by `stepped`; at most six each."""

    def resume_at(self, routine: str) -> None:
        """Go on with one of `layout.routines`."""
        raise NotImplementedError

    def attention(self, wanted: bool) -> None:
        """Whether something waits that `between` has to look at; native code is left for it."""

    def tick_pending(self) -> None:
        """The tick waits to be delivered (dsl/tick.py): what halted for an interrupt goes on; of architectures that have one."""

    def halt(self) -> None:
        """Stop: `halted`, until something makes that False."""
        raise NotImplementedError

    def unknown(self, text: str) -> None:
        """Log what the guest asked for and we do not have (a register, an instruction)."""
