"""A processor whose program is a Python generator: each `next` is a slice of guest time, yielding "hlt" halts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from exuvia.boot.entry import Entry


class FakeVcpu:
    """Has the Vcpu interface; `spin` in a program waits, as native code would run, until it is kicked."""

    long_mode = True

    def __init__(self, index: int, program: Callable[[FakeVcpu], Iterator[str]]) -> None:
        self.index, self.program = index, program
        self.halted = False
        self.line = False
        self.tick = None
        self.kicked = threading.Event()
        self.acknowledge: Callable[[], int] = lambda: 0
        self.numeric_error: Callable[[], None] = lambda: None
        self.ignored_errors = 0
        self.entry: Entry | None = None
        self.taken: list[int] = []
        self.resets = 0
        self.runs = 0
        self.native_run: Callable[[float], bool] = self.kicked.wait

    def run(self) -> None:
        self.runs += 1
        if self.line:
            self.taken.append(self.acknowledge())
        what = next(self.steps)
        if what == "hlt":
            self.halted = not self.line
        elif what == "spin":
            assert self.native_run(5), "nobody kicked the processor"
        self.kicked.clear()

    def kick(self) -> None:
        self.kicked.set()

    def signal(self, line: str, level: bool) -> None:
        self.interrupt(level)

    def interrupt(self, level: bool) -> None:
        self.line = level
        if level:
            self.halted = False

    def nmi(self) -> None:
        self.taken.append(2)

    def ignore_numeric_error(self) -> None:
        self.ignored_errors += 1

    def init(self) -> None:
        self.halted = True

    def start(self, vector: int) -> None:
        self.halted = False

    def reset(self) -> None:
        self.resets += 1
        self.halted = self.index > 0
        self.steps = self.program(self)

    def enter(self, entry: Entry) -> None:
        self.entry = entry
