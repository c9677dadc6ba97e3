"""Signals while a machine runs.

Python runs a handler only between the main thread's own steps, and that thread may be in native code for long. So the handlers do nothing:
the wake-up descriptor passes each signal's number to a thread, which asks the machine to end, or stops and continues the process with the
terminal as the user expects it.
"""

import os
import signal
import socket
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import Any

from exuvia.backends.chardev import terminal
from exuvia.machines.machine import Machine

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPING = (signal.SIGTSTP, signal.SIGCONT)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler must exist for the wake-up descriptor to be written."""


class Signals:
    """`with Signals(program, machine):` in the main thread. SIGINT, SIGTERM and SIGHUP end the machine with status 128 + number."""

    def __init__(self, program: str, machine: Machine) -> None:
        self._program, self._machine = program, machine
        self._before: dict[int, Any] = {}
        self._ending = False

    def __enter__(self) -> "Signals":
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in (*_ENDING, *_STOPPING):
            self._before[number] = signal.signal(number, _nothing)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._write.close()
        self._thread.join()
        self._read.close()

    def _watch(self) -> None:
        try:
            while numbers := self._read.recv(64):
                for number in numbers:
                    self._act(number)
        except BaseException:  # without this thread nothing but SIGKILL would end the process
            terminal.restore()
            traceback.print_exc()
            os._exit(70)

    def _act(self, number: int) -> None:
        if number == signal.SIGTSTP:
            terminal.pause()
            os.kill(os.getpid(), signal.SIGSTOP)
        elif number == signal.SIGCONT:
            terminal.again()
        elif number in _ENDING:
            if self._ending:  # asked twice: the machine does not listen
                terminal.restore()
                os._exit(128 + number)
            self._ending = True
            try:
                print(f"{self._program}: terminating on signal {number}", end="\r\n", file=sys.stderr, flush=True)
            except OSError:  # the terminal was closed
                pass
            self._machine.exit(128 + number)
