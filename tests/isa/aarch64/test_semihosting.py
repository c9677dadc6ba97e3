"""Semihosting: calls of a program and what they give, here and on QEMU; what a guest must not get away with; where it is off."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exuvia.isa.aarch64.cpu import EC_UNKNOWN
from exuvia.isa.aarch64.faults import Fault
from exuvia.isa.aarch64.semihosting import semihosting_call
from exuvia.support.errors import UserError
from exuvia.vcpu.clock import Clock
from tests.boot.images import elf
from tests.isa.aarch64.test_processor import Alone
from tests.isa.calls import HERE, QEMU, Memory, file, results, start

OPEN, CLOSE, WRITEC, WRITE0, WRITE, READ, READC, ISERROR, ISTTY, SEEK = range(1, 11)
FLEN, TMPNAM, REMOVE, RENAME, CLOCK, TIME, SYSTEM, ERRNO = range(0x0C, 0x14)
GET_CMDLINE, HEAPINFO, EXIT, SYNCCACHE, EXIT_EXTENDED, ELAPSED, TICKFREQ = 0x15, 0x16, 0x18, 0x19, 0x20, 0x30, 0x31
CODE, TABLE, DATA, RAM_END = 0x4020_0000, 0x4030_0000, 0x4040_0000, 0x4800_0000
NOWHERE = 0x7FFF_0000_0000
APPLICATION_EXIT = 0x20026
ENTRY = 24  # bytes of the table: operation, block, result
FIRST = {HERE: 3, QEMU: 1}  # the first handle that a guest gets
MANY = 1 << 62
PROGRAM = [
    0xD2A80613,  # movz x19, #0x4030, lsl #16
    0xF9400260,  # ldr x0, [x19]
    0xF9400661,  # ldr x1, [x19, #8]
    0xD45E0000,  # hlt #0xf000
    0xF9000A60,  # str x0, [x19, #16]
    0x91006273,  # add x19, x19, #24
    0x17FFFFFB,  # b to the first ldr
]


class Guest:
    """Calls in order, and what each has to give: None for anything."""

    def __init__(self) -> None:
        self.data, self.calls, self.expected = Memory(DATA), Memory(TABLE), list[int | None]()

    def call(self, expected: int | None, operation: int, block: int = 0) -> None:
        self.calls.words(operation, block, 0)
        self.expected.append(expected)

    def __call__(self, expected: int | None, operation: int, *arguments: int) -> int:
        """With a block of arguments, whose address it returns."""
        block = self.data.words(*arguments)
        self.call(expected, operation, block)
        return block

    def open(self, expected: int | None, name: str, mode: int) -> None:
        self(expected, OPEN, self.data.text(name), mode, len(name.encode()))

    def run(
        self, where: str, folder: Path, *options: str, end: tuple[int, int, int] = (EXIT, APPLICATION_EXIT, 0), typed: bytes = b""
    ) -> int:
        """Run it, and look at what the calls gave; `data` is what it is then, and this gives the exit status."""
        out, wanted = folder / "out", list(self.expected)
        handle = FIRST[where]
        for other in range(handle, handle + 4):  # whatever is open
            self(None, CLOSE, other)
        self.open(handle, str(out), 4)
        size = ENTRY * len(wanted)
        self(0, WRITE, handle, TABLE, size)
        self(0, WRITE, handle, DATA, len(self.data.content))
        self(None, *end)
        code = b"".join(w.to_bytes(4, "little") for w in PROGRAM)
        parts = [(CODE, code), (TABLE, bytes(self.calls.content)), (DATA, bytes(self.data.content))]
        kernel = file(folder, "kernel", elf(64, [(at, at, part, len(part)) for at, part in parts], CODE, machine=183))
        ended = start(where, "aarch64", ["-M", "virt", "-cpu", "cortex-a57", "-semihosting", "-kernel", str(kernel), *options], typed)
        said = out.read_bytes()
        gave = results(said[:size])[2::3]
        assert gave == [g if e is None else e for g, e in zip(gave, wanted, strict=True)]
        self.data.content = bytearray(said[size:])
        return ended

    def at(self, address: int, size: int) -> bytes:
        """The guest's data when it ended."""
        return bytes(self.data.content[address - DATA : address - DATA + size])


@pytest.mark.parametrize("where", [HERE, QEMU])
def test_files(where: str, tmp_path: Path) -> None:
    guest, name, other, h = Guest(), str(tmp_path / "file"), str(tmp_path / "other"), FIRST[where]
    digits, buffer = guest.data.text("0123456789"), guest.data.put(bytes(24))
    guest.open(h, name, 4)  # w
    guest.open(h + 1, name, 1)  # rb
    guest(0, WRITE, h, digits, 10)
    guest(10, FLEN, h)
    guest(0, ISTTY, h)
    guest(0, ISERROR, h)
    guest(1, ISERROR, -1)
    guest(0, SEEK, h + 1, 2)
    guest(12, READ, h + 1, buffer, 20)
    guest(5, READ, h + 1, buffer + 8, 5)  # the end
    guest(4, READ, h, buffer, 4)  # it is open for writing
    guest.call(errno.EBADF if where == HERE else None, ERRNO)  # QEMU 7.2 says ENOTTY, of ISTTY
    guest(0, CLOSE, h + 1)
    guest(-1, CLOSE, h + 1)
    guest.call(errno.EBADF, ERRNO)
    guest(0, CLOSE, h)
    guest.open(h, name, 8)  # a
    guest(0, WRITE, h, digits, 3)
    guest(13 if where == HERE else None, FLEN, h)  # QEMU 7.2 does not append
    old, new = guest.data.text(name), guest.data.text(other)
    guest(0, RENAME, old, len(name), new, len(other))
    guest.open(-1, name, 0)
    guest.call(errno.ENOENT, ERRNO)
    guest(0, REMOVE, new, len(other))
    guest(-1, REMOVE, new, len(other))
    guest.open(-1, name, 12)
    guest.call(errno.EINVAL, ERRNO)
    assert guest.run(where, tmp_path, end=(EXIT, APPLICATION_EXIT, 42)) == 42
    assert guest.at(buffer, 8) == b"23456789"
    assert not Path(name).exists() and not Path(other).exists()


@pytest.mark.parametrize("where", [HERE, QEMU])
def test_what_is_no_file(where: str, tmp_path: Path) -> None:
    guest, h = Guest(), FIRST[where]
    buffer = guest.data.put(bytes(64))
    guest.open(h, ":semihosting-features", 0)
    guest(3, READ, h, buffer, 8)
    guest.open(-1, ":semihosting-features", 4)
    line = guest(0, GET_CMDLINE, buffer + 8, 32)
    guest(-1, GET_CMDLINE, buffer + 40, 4)
    heap = guest.data.words(0, 0, 0, 0)
    guest(0, HEAPINFO, heap)
    guest(None, CLOCK)
    guest(None, TIME)
    guest(0, ELAPSED, 0)
    guest.call(10**9, TICKFREQ)
    guest.call(0, SYNCCACHE)
    name = guest.data.put(bytes(64))
    guest(0, TMPNAM, name, 7, 64)
    guest(-1, TMPNAM, name + 32, 7, 4)
    status = guest.run(where, tmp_path, "-semihosting-config", "arg=one,arg=two,,2", end=(EXIT_EXTENDED, APPLICATION_EXIT + 1, 5))
    assert status == 1
    assert guest.at(buffer, 5) == b"SHFB\3"
    assert guest.at(buffer + 8, 10) == b"one two,2\0" and results(guest.at(line + 8, 8)) == [9]
    start_, end, stack, limit = results(guest.at(heap, 32))
    assert TABLE < start_ < end == RAM_END and (stack, limit) == (end, start_)
    assert b"/" in guest.at(name, 32) and b"\0" in guest.at(name, 32)


@pytest.mark.parametrize("where", [HERE, QEMU])
@pytest.mark.parametrize("chardev", [False, True])
def test_console(where: str, chardev: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    guest, h = Guest(), FIRST[where]
    guest.call(None, WRITE0, guest.data.text("hello "))
    guest.call(None, WRITEC, guest.data.text("c"))
    text = guest.data.text("abc")
    for n, mode in enumerate((4, 8)):
        guest.open(h + n, ":tt", mode)
        guest(0, WRITE, h + n, text, n + 1)
    console = tmp_path / "console"
    options = ("-chardev", f"file,id=c,path={console}", "-semihosting-config", "chardev=c") if chardev else ()
    assert guest.run(where, tmp_path, *options) == 0
    out, err = capfd.readouterr()
    assert out == "a"
    assert (console.read_text(), err) == ("hello c", "ab") if chardev else err == "hello cab"


def test_input(tmp_path: Path) -> None:
    """Calls wait until something was typed, and then see the end."""
    guest, h = Guest(), FIRST[HERE]
    buffer = guest.data.put(bytes(8))
    guest.open(h, ":tt", 0)
    guest.call(ord("a"), READC)
    guest(2, READ, h, buffer, 4)
    guest(4, READ, h, buffer, 4)
    guest.call(-1, READC)
    assert guest.run(HERE, tmp_path, typed=b"abc") == 0
    assert guest.at(buffer, 4) == b"bc\0\0"


def test_hostile(tmp_path: Path) -> None:
    guest, h, name = Guest(), FIRST[HERE], str(tmp_path / "file")
    text = guest.data.text(name)
    for operation in set(range(0x40)) - {EXIT, EXIT_EXTENDED, READC}:
        for block in (NOWHERE, (1 << 64) - 4, RAM_END - 4, 0x0900_0000):  # a device's registers are no memory
            guest.call(None, operation, block)
        guest(None, operation, *[(1 << 64) - 1] * 4)
    guest.call(-1, 0x7F)
    guest.call(errno.ENOSYS, ERRNO)
    guest.call(-1, SYSTEM, guest.data.words(text, len(name)))
    guest.call(errno.EPERM, ERRNO)
    guest(-1, OPEN, text, 0, len(name) - 1)  # not where the string ends
    guest(-1, OPEN, text, 0, 1 << 40)
    guest(-1, OPEN, text, 0, 4000)
    guest(-1, OPEN, RAM_END - 8, 0, 8)
    guest.open(-1, "a\0b", 0)
    guest.open(-1, str(tmp_path), 4)
    guest.open(h, name, 6)  # w+
    guest(None, WRITE, h, RAM_END - 16, MANY)  # as far as there is memory
    guest(MANY, WRITE, h, NOWHERE, MANY)
    guest(8, READ, h, NOWHERE, 8)
    guest(-1, SEEK, h, 1 << 63)
    guest(-1, GET_CMDLINE, NOWHERE, 4000)
    guest(-1, HEAPINFO, NOWHERE)
    for n in range(300):
        guest.open(None, name if n else "missing", 0)
    guest.call(errno.EMFILE, ERRNO)
    assert guest.run(HERE, tmp_path) == 0


def machine(**host: Any) -> Any:
    return SimpleNamespace(vcpus=[], clock=Clock(), virtualization=False, semihosting=SimpleNamespace(**host) if host else None)


@pytest.mark.parametrize(("host", "el"), [({}, 1), ({}, 0), ({"userspace": False}, 0)])
def test_where_it_is_off(host: dict[str, Any], el: int) -> None:
    cpu = Alone(0, machine(**host))
    cpu.el = el
    with pytest.raises(Fault) as raised:
        semihosting_call(cpu)
    assert raised.value.ec == EC_UNKNOWN


def test_unprivileged_code_may_where_the_user_says_so() -> None:
    cpu = Alone(0, machine(userspace=True, last_error=7))
    cpu.el, cpu.x[0] = 0, ERRNO
    semihosting_call(cpu)
    assert cpu.x[0] == 7


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("x86_64", "-semihosting", "the processors of a pc have no calls for the host"),
        ("aarch64", "-semihosting-config chardev=c", "-semihosting-config: there is no chardev 'c'"),
    ],
)
def test_wrong_use(target: str, options: str, message: str, tmp_path: Path) -> None:
    kernel = file(tmp_path, "kernel", elf(64, [(CODE, CODE, bytes(4), 4)], CODE, machine=183))
    with pytest.raises(UserError, match=message):
        start(HERE, target, [*options.split(), "-kernel", str(kernel)])
