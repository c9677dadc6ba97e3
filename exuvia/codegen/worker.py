"""What a compile worker runs: what is wanted in, code out, over its standard streams. A crash of LLVM costs that, not the machine.

    python -m exuvia.codegen.worker MODULE FEATURES

MODULE is where the architecture comes from (`architecture.module`), FEATURES are the guest's, separated by commas. Each request and each
answer is a pickle behind its length (4 bytes): `Wanted` or `Forms`; `Made` or `Stencils`, or the text of the error.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import sys
from importlib import import_module
from typing import BinaryIO

from exuvia.codegen import stencil
from exuvia.codegen.making import Made, Wanted
from exuvia.dsl.architecture import Architecture, Form, Tables

LENGTH = struct.Struct("<I")
LARGEST = 64 << 20  # bytes of an object; a region has some kilobytes
PR_SET_PDEATHSIG = 1  # prctl(2)


def receive(stream: BinaryIO) -> object:
    """The next object; raises EOFError where the stream ends, in the middle of one too, or holds something else."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    if size > LARGEST:
        raise EOFError(f"{size} bytes announced")
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    try:
        return pickle.loads(body)
    except Exception as error:  # whatever garbage makes of unpickling
        raise EOFError(repr(error)) from None


def send(stream: BinaryIO, what: object) -> None:
    """Write an object."""
    body = pickle.dumps(what, protocol=5)
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


class Forms:
    """The instruction forms of an architecture with some features."""

    def __init__(self, architecture: Architecture, features: frozenset[str]) -> None:
        self.architecture, self.features = architecture, features
        self.tables: dict[int, Tables] = {}
        self.forms: dict[tuple[int, int], Form] = {}

    def form(self, mode: int, slot: int) -> Form:
        """What a slot means in a mode."""
        if mode not in self.tables:
            self.tables[mode] = self.architecture.tables(mode, self.features)
        if (mode, slot) not in self.forms:
            self.forms[mode, slot] = self.architecture.form(mode, self.tables[mode], slot)
        return self.forms[mode, slot]


def end_with_parent() -> None:
    """Be killed when the thread that started this process is no more, even while stopped. Elsewhere than on Linux the stream's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Until the stream ends."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the machine
    os.nice(5)
    module, features = sys.argv[1:]
    architecture: Architecture = import_module(module).architecture()
    forms = Forms(architecture, frozenset(features.split(",")))
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        while True:
            wanted = receive(source)
            assert isinstance(wanted, Wanted | stencil.Forms)
            made: Made | stencil.Stencils | str
            try:
                made = wanted.make(forms.form, architecture)
            except Exception as error:  # the interpreter goes on with it, and this worker with others
                what = "a region was" if isinstance(wanted, Wanted) else "stencils were"
                print(f"exuvia: {what} not compiled: {error!r}", file=sys.stderr)
                made = f"{type(error).__name__} {error}"
            send(sink, made)
    except (EOFError, BrokenPipeError):  # the machine has ended
        os._exit(0)


if __name__ == "__main__":
    main()
