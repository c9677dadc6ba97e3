"""Semihosting (Unified Hosting Interface, MD01069): SDBBP 1, the operation in $25, its arguments from $4 on.

The result is $2, and where that is -1 an error number is in $3.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from exuvia.dsl.semihosting import PIECE, Operations, Waits, bad, receive, send, store, text
from exuvia.isa.mips.concrete import WORD_MASK, Fault, Processor, rare
from exuvia.isa.mips.state import RI

V0, V1, A0, OPERATION = 2, 3, 4, 25
STANDARD = (b"/dev/stdin", b"/dev/stdout", b"/dev/stderr")
READ_WRITE = {0: os.O_RDONLY, 1: os.O_WRONLY, 2: os.O_RDWR}
FLAGS = {0x8: os.O_APPEND, 0x200: os.O_CREAT, 0x400: os.O_TRUNC, 0x800: os.O_EXCL}
STATUS = (2, 2, 4, 2, 2, 2, 2, *[8] * 11)
"""Bytes of dev ino mode nlink uid gid rdev, and of size, three times with a spare word behind each, blksize, blocks, two spare."""
SAME_ERRORS = range(1, 35)  # EPERM to ERANGE
ERRORS = {errno.ENAMETOOLONG: 78, errno.EOVERFLOW: 79, errno.ENOSYS: 89, errno.ELOOP: 90, errno.ENOTEMPTY: 93}  # Linux' of MIPS
ABORTED = 134  # what a shell says of abort()


def signed(value: int) -> int:
    """A word as a number."""
    return value - (value >> 31 << 32)


class Call:
    """One call: its processor, the host's side, its arguments."""

    def __init__(self, cpu: Processor, host: Any) -> None:
        self.cpu, self.host = cpu, host
        self.arguments = [cpu.r[A0 + i] & WORD_MASK for i in range(4)]

    def string(self, number: int) -> bytes:
        """An argument that is one."""
        return text(self.cpu, self.arguments[number])

    def own(self, number: int) -> bytes:
        """A word of the guest's command line."""
        if number >= len(self.host.arguments):
            raise bad(errno.EINVAL)
        return bytes(self.host.arguments[number])


operations: Operations[Call] = Operations("UHI")
operation = operations.operation


@rare
def semihosting_call(cpu: Processor) -> None:
    """SDBBP 1."""
    host = cpu.machine.semihosting
    if host is None or cpu.user and not host.userspace:
        raise Fault(RI)
    error = 0
    result: int | None = -1
    try:
        result = operations.perform(cpu, cpu.r[OPERATION] & WORD_MASK, Call(cpu, host))
    except OSError as failure:
        code = failure.errno or errno.EINVAL
        error = code if code in SAME_ERRORS else ERRORS.get(code, errno.EINVAL)
    except Waits:  # as WAIT, and then once more, with the jump whose delay slot it stands in
        cpu.pc = cpu.here - 4 if cpu.then else cpu.here
        cpu.then, cpu.halted = 0, True
        return
    if result is not None:
        cpu.r[V0], cpu.r[V1] = result & WORD_MASK, error


@operation(1)
def exit_(call: Call) -> None:
    call.cpu.halted = True
    call.cpu.machine.exit(call.arguments[0] & 0xFF)


@operation(2)
def open_(call: Call) -> int:
    name, flags, mode = call.string(0), call.arguments[1], call.arguments[2]
    if name in STANDARD:
        return STANDARD.index(name)
    if flags & 3 not in READ_WRITE:
        raise bad(errno.EINVAL)
    return int(call.host.open(name, sum((bit for flag, bit in FLAGS.items() if flags & flag), READ_WRITE[flags & 3]), mode))


@operation(3)
def close(call: Call) -> int:
    call.host.close(call.arguments[0])
    return 0


def read(call: Call, at: int | None = None) -> int:
    """From where the file is, or from `at` on."""
    handle, address, count = call.arguments[:3]
    return receive(call.cpu, address, count, lambda wanted: call.host.read(handle, wanted, call.cpu.input_arrived, at))


def write(call: Call, at: int | None = None) -> int:
    """Likewise."""
    handle, address, count = call.arguments[:3]
    return send(call.cpu, address, count, lambda data: call.host.write(handle, data, at))


operation(4)(read)
operation(5)(write)


@operation(6)
def lseek(call: Call) -> int:
    handle, offset, whence = call.arguments[:3]
    if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
        raise bad(errno.EINVAL)
    return int(call.host.seek(handle, signed(offset), whence))


@operation(7)
def unlink(call: Call) -> int:
    call.host.remove(call.string(0))
    return 0


@operation(8)
def fstat(call: Call) -> int:
    s = call.host.status(call.arguments[0])
    numbers = s.st_dev, s.st_ino, s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_rdev
    times = (int(time) for stamp in (s.st_atime, s.st_mtime, s.st_ctime) for time in (stamp, 0))
    values = [*numbers, s.st_size, *times, s.st_blksize, s.st_blocks, 0, 0]
    store(call.cpu, call.arguments[1], b"".join(number(value, size, call.cpu) for value, size in zip(values, STATUS)))
    return 0


def number(value: int, size: int, cpu: Processor) -> bytes:
    """The lower bytes of it as they lie in the guest's memory."""
    return (value & (1 << 8 * size) - 1).to_bytes(size, "big" if cpu.model.big else "little")


@operation(9)
def argc(call: Call) -> int:
    return len(call.host.arguments)


@operation(10)
def argnlen(call: Call) -> int:
    return len(call.own(call.arguments[0]))


@operation(11)
def argn(call: Call) -> int:
    store(call.cpu, call.arguments[1], call.own(call.arguments[0]) + b"\0")
    return 0


@operation(13)
def plog(call: Call) -> int:
    """A line for the console, in which the first %d is the second argument."""
    shown = call.string(0).replace(b"%d", b"%d" % signed(call.arguments[1]), 1)
    call.host.show(shown)
    return len(shown)


@operation(14)
def assert_(call: Call) -> None:
    condition, file = call.string(0), call.string(1)
    call.host.show(b'assertion \'"%s"\': file "%s", line %d\n' % (condition, file, signed(call.arguments[2])))
    call.cpu.halted = True
    call.cpu.machine.exit(ABORTED)


@operation(19)
def pread(call: Call) -> int:
    return placed(call, read)


@operation(20)
def pwrite(call: Call) -> int:
    return placed(call, write)


def placed(call: Call, move: Callable[[Call, int], int]) -> int:
    """At an offset of the file, no more than one look at the host can: the rest is for the next call."""
    call.arguments[2] = min(call.arguments[2], PIECE)
    if (at := signed(call.arguments[3])) < 0:
        raise bad(errno.EINVAL)
    return move(call, at)


@operation(22)
def link(call: Call) -> int:
    call.host.link(call.string(0), call.string(1))
    return 0
