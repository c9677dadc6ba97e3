"""Where native code is, asked many times a second: a signal handler made by LLVM notes the host's program counter (`exuvia profile`).

timer_create(2) sends a signal to one thread (SIGEV_THREAD_ID). The handler finds the program counter in the ucontext that the kernel gives
it (Linux, uapi/asm/ucontext.h and sigcontext.h) and writes a sample into a ring, if the thread has run since the last one.

The timer is one of real time: those of a thread's processor time go by the kernel's ticks, and a guest's own ticks keep their distance from
these. Each sample would find the guest at the same place of its tick. So the interval is no part of a millisecond either.
"""

from __future__ import annotations

import ctypes
import platform
import signal
import struct
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

from exuvia.codegen.area import Area, Code
from exuvia.codegen.build import compile_text
from exuvia.dsl.state import Layout
from exuvia.support.errors import UserError

RING = 1 << 16  # samples that may wait to be taken
SAMPLE = struct.Struct("<QQQQ")
INTERVAL = 1_137_000  # ns
PC = {"x86_64": 168, "aarch64": 440}  # of the program counter in a ucontext
CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID = 1, 3, 4
STATE, PHASE, COUNT = 0, 8, 16  # bytes into the control words, which the program and the handler share
LAST, NOW = 24, 32  # the handler's own: the thread's processor time at the last sample, and a struct timespec


class Sample(NamedTuple):
    """The host's program counter, what Python said it was doing, and of the processor the running block's head and page."""

    pc: int
    phase: int
    head: int
    page: int


class SignalEvent(ctypes.Structure):
    """struct sigevent."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("rest", ctypes.c_char * 44),
    ]


class Action(ctypes.Structure):
    """struct sigaction of the C library."""

    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]


SA_RESTART = 0x10000000
RUNNING: set[Sampler] = set()  # their handlers may be entered at any time, and write to their memory: nobody else may have them any more


class Sampler:
    """Samples the thread that calls `start`, some 880 times in a second that it runs.

    Raises UserError on hosts that it does not know.
    """

    def __init__(self, layout: Layout) -> None:
        machine = platform.machine()
        if sys.platform != "linux" or machine not in PC:
            raise UserError(f"profile knows Linux on {' and '.join(PC)}, not {sys.platform} on {machine}")
        self.control, self.ring = Area(4096), Area(RING * SAMPLE.size)
        self.words = memoryview(self.control.map).cast("Q")
        self.libc = ctypes.CDLL(None, use_errno=True)
        clock = ctypes.cast(self.libc.clock_gettime, ctypes.c_void_p).value or 0
        text = handler(self.control.address, self.ring.address, clock, PC[machine], layout.offset("current"), layout.offset("page"))
        code, symbols = compile_text(text)
        self.code = Code(1 << 16)
        self.entry = self.code.place(code) + symbols["sampled"]
        self.timer = ctypes.c_void_p()
        self.before = Action()
        self.taken = self.lost = 0

    def call(self, name: str, *arguments: object) -> None:
        """A function of the C library. Raises OSError."""
        if getattr(self.libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), name)

    def start(self) -> None:
        """Begin. Raises OSError where the kernel gives no timer."""
        RUNNING.add(self)
        self.call("sigaction", signal.SIGPROF, ctypes.byref(Action(self.entry, flags=SA_RESTART)), ctypes.byref(self.before))
        event = SignalEvent(None, signal.SIGPROF, SIGEV_THREAD_ID, threading.get_native_id())
        self.call("timer_create", CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self.timer))
        every = (ctypes.c_long * 4)(0, INTERVAL, 0, INTERVAL)
        self.call("timer_settime", self.timer, 0, every, None)

    def stop(self) -> None:
        """End, in the same thread."""
        self.call("timer_delete", self.timer)
        self.call("sigaction", signal.SIGPROF, ctypes.byref(self.before), None)
        RUNNING.discard(self)

    @property
    def waiting(self) -> int:
        """Samples that were not taken yet."""
        return self.words[COUNT // 8] - self.taken

    def take(self) -> Iterator[Sample]:
        """The samples since the last time; those that found the ring full are counted in `lost`."""
        end = self.words[COUNT // 8]
        if end - self.taken > RING:
            self.lost += end - self.taken - RING
            self.taken = end - RING
        while self.taken < end:
            at = (self.taken & (RING - 1)) * SAMPLE.size
            self.taken += 1
            yield Sample(*SAMPLE.unpack_from(self.ring.map, at))


def handler(control: int, ring: int, clock: int, pc: int, current: int, page: int) -> str:
    """LLVM text of the signal handler: it touches nothing but the control words, the ring and a processor's state. `clock` is the
    address of clock_gettime."""

    def word(address: int) -> str:
        return f"inttoptr (i64 {address} to ptr)"

    return f"""
define void @sampled(i32 %signal, ptr %info, ptr %context) nounwind {{
  %failed = call i32 {word(clock)}(i32 {CLOCK_THREAD_CPUTIME_ID}, ptr {word(control + NOW)})
  %s = load i64, ptr {word(control + NOW)}
  %ns = load i64, ptr {word(control + NOW + 8)}
  %scaled = mul i64 %s, 1000000000
  %now = add i64 %scaled, %ns
  %last = load i64, ptr {word(control + LAST)}
  %gone = sub i64 %now, %last
  %ran = icmp ugt i64 %gone, {INTERVAL // 2}
  br i1 %ran, label %sample, label %asleep
asleep:
  ret void
sample:
  store i64 %now, ptr {word(control + LAST)}
  %n = load i64, ptr {word(control + COUNT)}
  %next = add i64 %n, 1
  store i64 %next, ptr {word(control + COUNT)}
  %place = and i64 %n, {RING - 1}
  %spot = getelementptr [4 x i64], ptr {word(ring)}, i64 %place
  %from = getelementptr i8, ptr %context, i64 {pc}
  %pc = load i64, ptr %from
  store i64 %pc, ptr %spot
  %phase = load i64, ptr {word(control + PHASE)}
  %s1 = getelementptr i64, ptr %spot, i64 1
  store i64 %phase, ptr %s1
  %state = load ptr, ptr {word(control + STATE)}
  %s2 = getelementptr i64, ptr %spot, i64 2
  %s3 = getelementptr i64, ptr %spot, i64 3
  %none = icmp eq ptr %state, null
  br i1 %none, label %without, label %with
without:
  store i64 0, ptr %s2
  store i64 0, ptr %s3
  ret void
with:
  %c = getelementptr i8, ptr %state, i64 {current}
  %head = load i64, ptr %c
  store i64 %head, ptr %s2
  %p = getelementptr i8, ptr %state, i64 {page}
  %pagenow = load i64, ptr %p
  store i64 %pagenow, ptr %s3
  ret void
}}
"""
