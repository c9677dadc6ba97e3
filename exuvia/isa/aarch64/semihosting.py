"""Semihosting (Semihosting for AArch32 and AArch64, release 2.0): HLT #0xF000 in A64, the operation in w0, its arguments in memory at x1.

The result is x0, -1 where the call failed; SYS_ERRNO says why, in the host's numbers.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from exuvia.dsl.semihosting import MOST_PATH, MOST_TEXT, Operations, Waits, bad, fetch, receive, send, store, text
from exuvia.isa.aarch64.faults import rare, undefined
from exuvia.isa.aarch64.processor import Processor

MASK, SIGN = (1 << 64) - 1, 1 << 63
CONSOLE, FEATURES = b":tt", b":semihosting-features"
FEATURE_BYTES = b"SHFB\3"  # SH_EXT_EXIT_EXTENDED, SH_EXT_STDOUT_STDERR (2.3)
FOPEN = (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_TRUNC,
         os.O_WRONLY | os.O_CREAT | os.O_APPEND, os.O_RDWR | os.O_CREAT | os.O_APPEND)  # fmt: skip  # r r+ w w+ a a+, of two modes each
APPLICATION_EXIT = 0x20026  # ADP_Stopped_ApplicationExit
CENTISECOND, SECOND = 10**7, 10**9  # ns


class Call:
    """One call: its processor, the host's side, and where its arguments are."""

    def __init__(self, p: Processor, host: Any) -> None:
        self.p, self.host, self.block = p, host, p.x[1]

    def argument(self, number: int) -> int:
        """A field of the parameter block."""
        return int.from_bytes(fetch(self.p, self.block + 8 * number, 8), "little")

    def answer(self, address: int, *values: int) -> None:
        """Fields in memory that the call fills."""
        store(self.p, address, b"".join(value.to_bytes(8, "little") for value in values))

    def path(self, address: int, length: int) -> bytes:
        """A string, whose length doesn't count the zero that ends it."""
        if length > MOST_PATH:
            raise bad(errno.ENAMETOOLONG)
        name = fetch(self.p, address, length + 1)
        if name.find(b"\0") != length:
            raise bad(errno.EINVAL)
        return name[:length]


operations: Operations[Call] = Operations("semihosting")
operation = operations.operation


@rare
def semihosting_call(p: Processor) -> None:
    """HLT #0xF000."""
    host = p.machine.semihosting
    if host is None or p.el == 0 and not host.userspace:
        raise undefined()
    result: int | None = -1
    try:
        result = operations.perform(p, p.x[0] & 0xFFFFFFFF, Call(p, host))
    except OSError as error:
        host.last_error = error.errno
    except Waits:  # as WFI, and then once more
        p.pc, p.halted = p.here, True
        return
    if result is not None:
        p.x[0] = result & MASK


@operation(0x01)
def sys_open(call: Call) -> int:
    name, mode = call.path(call.argument(0), call.argument(2)), call.argument(1)
    if mode >= 2 * len(FOPEN):
        raise bad(errno.EINVAL)
    if name == CONSOLE:
        return int(call.host.standard(mode // 4))  # read, write and append are standard input, output and error (5.7)
    if name == FEATURES:
        if mode > 1:
            raise bad(errno.EACCES)
        with tempfile.NamedTemporaryFile() as file:
            file.write(FEATURE_BYTES)
            file.flush()
            return int(call.host.open(os.fsencode(file.name), os.O_RDONLY))
    return int(call.host.open(name, FOPEN[mode // 2]))


@operation(0x02)
def sys_close(call: Call) -> int:
    call.host.close(call.argument(0))
    return 0


@operation(0x03)
def sys_writec(call: Call) -> None:
    call.host.show(fetch(call.p, call.block, 1))


@operation(0x04)
def sys_write0(call: Call) -> None:
    call.host.show(text(call.p, call.block, MOST_TEXT))


def moved(call: Call, move: Callable[..., int], host: Callable[[int], Any]) -> int:
    """How many of the bytes of a buffer were not; all of them where it failed."""
    address, count = call.argument(1), call.argument(2)
    try:
        return count - move(call.p, address, count, host)
    except OSError as error:
        call.host.last_error = error.errno
        return count


@operation(0x05)
def sys_write(call: Call) -> int:
    return moved(call, send, partial(call.host.write, call.argument(0)))


@operation(0x06)
def sys_read(call: Call) -> int:
    handle = call.argument(0)
    return moved(call, receive, lambda count: call.host.read(handle, count, call.p.input_arrived))


@operation(0x07)
def sys_readc(call: Call) -> int:
    typed = call.host.type(1, call.p.input_arrived)
    if typed is None:
        raise Waits
    return typed[0] if typed else -1


@operation(0x08)
def sys_iserror(call: Call) -> int:
    return int(call.argument(0) >= SIGN)


@operation(0x09)
def sys_istty(call: Call) -> int:
    return int(call.host.is_terminal(call.argument(0)))


@operation(0x0A)
def sys_seek(call: Call) -> int:
    offset = call.argument(1)
    if offset >= SIGN:
        raise bad(errno.EINVAL)
    call.host.seek(call.argument(0), offset)
    return 0


@operation(0x0C)
def sys_flen(call: Call) -> int:
    return int(call.host.status(call.argument(0)).st_size)


@operation(0x0D)
def sys_tmpnam(call: Call) -> int:
    address, number, size = (call.argument(i) for i in range(3))
    if number > 255:
        raise bad(errno.EINVAL)
    name = os.fsencode(os.path.join(tempfile.gettempdir(), f"exuvia-{os.getpid():x}-{number:02x}")) + b"\0"
    if len(name) > size:
        raise bad(errno.ENAMETOOLONG)
    store(call.p, address, name)
    return 0


@operation(0x0E)
def sys_remove(call: Call) -> int:
    call.host.remove(call.path(call.argument(0), call.argument(1)))
    return 0


@operation(0x0F)
def sys_rename(call: Call) -> int:
    old, new = (call.path(call.argument(i), call.argument(i + 1)) for i in (0, 2))
    call.host.rename(old, new)
    return 0


@operation(0x10)
def sys_clock(call: Call) -> int:
    return int(call.p.clock.now()) // CENTISECOND


@operation(0x11)
def sys_time(call: Call) -> int:
    return int(call.host.time())


@operation(0x12)
def sys_system(call: Call) -> int:
    """The guest may have the host's files, but run nothing there."""
    raise bad(errno.EPERM)


@operation(0x13)
def sys_errno(call: Call) -> int:
    return int(call.host.last_error)


@operation(0x15)
def sys_get_cmdline(call: Call) -> int:
    address, size = call.argument(0), call.argument(1)
    line = b" ".join(call.host.arguments) + b"\0"
    if len(line) > size:
        raise bad(errno.E2BIG)
    store(call.p, address, line)
    call.answer(call.block + 8, len(line) - 1)
    return 0


@operation(0x16)
def sys_heapinfo(call: Call) -> int:
    """One stretch for both: the heap from its start on, the stack from its end down."""
    start, end = call.p.machine.free_memory
    call.answer(call.argument(0), start, end, end, start)
    return 0


@operation(0x18)
@operation(0x20)
def sys_exit(call: Call) -> None:
    """SYS_EXIT_EXTENDED is the same in A64."""
    reason, status = call.argument(0), call.argument(1)
    call.p.halt_for_good()
    call.p.machine.exit(status & 0xFF if reason == APPLICATION_EXIT else 1)


@operation(0x19)
def sys_synccache(call: Call) -> int:
    """Caches are coherent."""
    return 0


@operation(0x30)
def sys_elapsed(call: Call) -> int:
    call.answer(call.block, call.p.clock.now())
    return 0


@operation(0x31)
def sys_tickfreq(call: Call) -> int:
    return SECOND
