"""Semihosting (UHI): calls of a program and what they give, here and on QEMU, in both byte orders; where it is off."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from exuvia.isa.mips.concrete import Fault
from exuvia.isa.mips.rare.semihosting import semihosting_call
from exuvia.isa.mips.state import RI, UM
from tests.boot.images import elf
from tests.isa.calls import HERE, QEMU, Memory, file, results, start
from tests.isa.mips.assembler import NOP, li, word
from tests.isa.mips.machine import KSEG0, Machine

EXIT, OPEN, CLOSE, READ, WRITE, LSEEK, UNLINK, FSTAT, ARGC, ARGNLEN, ARGN = range(1, 12)
PLOG, ASSERT, PREAD, PWRITE, LINK = 13, 14, 19, 20, 22
RDWR, CREAT, EXCL = 2, 0x200, 0x800
CODE, TABLE, DATA, RAM_END, UNMAPPED = 0x8010_0000, 0x8020_0000, 0x8030_0000, 0x8400_0000, 0xC000_0000
ENTRY = 8  # words of the table: operation, four arguments, result, error number, nothing
Capture = pytest.CaptureFixture[bytes]
ORDERS = {"mipsel": "little", "mips": "big"}
BOTH = pytest.mark.parametrize("target", list(ORDERS))
WHERE = pytest.mark.parametrize("where", [HERE, QEMU])


def program(slot: bool) -> list[int]:
    """Calls by the table; `slot`: in a jump's delay slot."""
    load = [word("lw", rt=r, base="s0", offset=4 * n) for n, r in enumerate(("t9", "a0", "a1", "a2", "a3"))]
    call = word("sdbbp", code=1)
    store = [word("sw", rt="v0", base="s0", offset=20), word("sw", rt="v1", base="s0", offset=24)]
    body = [*load, *([word("beq", branch=1), call] if slot else [call]), *store, word("addiu", rt="s0", rs="s0", imm=4 * ENTRY)]
    return [*li("s0", TABLE), *body, word("beq", branch=-len(body) - 1), NOP]


class Guest:
    """Calls in order, and what each has to give: None for anything."""

    def __init__(self, target: str, slot: bool = False) -> None:
        self.target, self.order, self.slot = target, ORDERS[target], slot
        self.data, self.calls = Memory(DATA, self.order, 4), Memory(TABLE, self.order, 4)
        self.expected: list[int | None] = []
        self.errors: dict[int, int] = {}
        self.said = self.last = b""

    def __call__(self, expected: int | None, operation: int, *arguments: int, error: int = 0) -> None:
        """`error` is what it has to be where the result is -1."""
        if error:
            self.errors[len(self.expected)] = error
        self.calls.words(operation, *arguments, *[0] * (ENTRY - 1 - len(arguments)))
        self.expected.append(expected)

    def run(self, where: str, folder: Path, capture: Capture, *options: str, end: tuple[int, ...] = (EXIT, 0), typed: bytes = b"") -> int:
        """Run it, and look at what the calls gave, which it writes to its console behind `said`. `data` is what it is then, and this gives
        the exit status."""
        wanted = list(self.expected)
        sizes = 4 * ENTRY * len(self.expected), len(self.data.content)
        for at, size in zip((TABLE, DATA), sizes):
            self(None, WRITE, 1, at, size)
        self(None, *end)
        code = b"".join(w.to_bytes(4, self.order) for w in program(self.slot))  # type: ignore[arg-type]
        parts = [(CODE, code), (TABLE, bytes(self.calls.content)), (DATA, bytes(self.data.content))]
        image = elf(32, [(at, at, part, len(part)) for at, part in parts], CODE, machine=8, big_endian=self.order == "big")
        kernel = file(folder, "kernel", image)
        ended = start(where, self.target, ["-M", "malta", "-m", "64", "-semihosting", "-kernel", str(kernel), *options], typed)
        said = capture.readouterr().err
        self.said = said[: -sum(sizes)]
        self.last = said[sum(sizes) :]
        words = results(said[-sum(sizes) : -sizes[1]], self.order, 4)
        gave = words[5::ENTRY]
        assert gave == [g if e is None else e for g, e in zip(gave, wanted, strict=True)]
        assert {n: words[6::ENTRY][n] for n in self.errors} == self.errors
        self.data.content = bytearray(said[-sizes[1] :])
        return ended

    def at(self, address: int, size: int) -> bytes:
        """The guest's data when it ended."""
        return bytes(self.data.content[address - DATA : address - DATA + size])


@BOTH
def test_files(target: str, tmp_path: Path, capfdbinary: Capture) -> None:
    guest, name, other, h = Guest(target), str(tmp_path / "file"), str(tmp_path / "other"), 3
    path, second, digits = guest.data.text(name), guest.data.text(other), guest.data.text("0123456789")
    buffer, status = guest.data.put(bytes(32)), guest.data.put(bytes(104))
    guest(-1, OPEN, path, 0, 0, error=errno.ENOENT)
    guest(h, OPEN, path, RDWR | CREAT | EXCL, 0o640)
    guest(-1, OPEN, path, RDWR | CREAT | EXCL, 0o640, error=errno.EEXIST)
    guest(10, WRITE, h, digits, 10)
    guest(2, LSEEK, h, 2, 0)
    guest(8, READ, h, buffer, 20)
    guest(0, READ, h, buffer, 20)
    guest(6, LSEEK, h, -4, 2)
    guest(-1, LSEEK, h, -4, 0, error=errno.EINVAL)
    guest(2, PWRITE, h, digits + 1, 2, 11)
    guest(3, PREAD, h, buffer + 8, 16, 10)
    guest(6, LSEEK, h, 0, 1)
    guest(0, FSTAT, h, status)
    guest(0, LINK, path, second)
    guest(0, UNLINK, path)
    guest(0, UNLINK, second)
    guest(-1, UNLINK, second, error=errno.ENOENT)
    guest(0, CLOSE, h)
    guest(-1, CLOSE, h, error=errno.EBADF)
    guest(0, CLOSE, 1)
    assert guest.run(HERE, tmp_path, capfdbinary, end=(EXIT, 42)) == 42
    assert guest.at(buffer, 11) == b"23456789\x0012"
    fields = struct.unpack((">" if target == "mips" else "<") + "HHIHHHH11Q", guest.at(status, 104))
    assert fields[2] == 0o100640 and fields[3] == 1 and fields[7] == 13


@BOTH
@WHERE
def test_what_is_no_file(target: str, where: str, tmp_path: Path, capfdbinary: Capture) -> None:
    guest = Guest(target)
    buffer, form, text = guest.data.put(bytes(16)), guest.data.text("%d and %d\n"), guest.data.text("shown\n")
    for n, name in enumerate(("/dev/stdin", "/dev/stdout", "/dev/stderr")):
        guest(n, OPEN, guest.data.text(name), 0, 0)
    guest(-1, OPEN, guest.data.text("/dev/missing"), 0, 0, error=errno.ENOENT)
    guest(2, ARGC)
    guest(5, ARGNLEN, 1)
    guest(0, ARGN, 1, buffer)
    guest(-1, ARGNLEN, 2)
    guest(-1, ARGN, 2, buffer)
    guest(6, WRITE, 1, text, 6)
    guest(-1, CLOSE, 1000, error=errno.EBADF)
    guest(None, PLOG, form, -5)
    status = guest.run(where, tmp_path, capfdbinary, "-semihosting-config", "arg=me,arg=words", end=(EXIT, 300))
    assert status == 300 & 0xFF
    assert guest.at(buffer, 6) == b"words\0"
    assert guest.said == b"shown\n-5 and %d\n"


@pytest.mark.parametrize("slot", [False, True])
def test_input(slot: bool, tmp_path: Path, capfdbinary: Capture) -> None:
    """Calls wait until something was typed, in a delay slot too, and then see the end."""
    guest = Guest("mipsel", slot)
    buffer = guest.data.put(bytes(8))
    guest(2, READ, 0, buffer, 2)
    guest(1, READ, 0, buffer + 2, 4)
    guest(0, READ, 0, buffer, 4)
    assert guest.run(HERE, tmp_path, capfdbinary, typed=b"abc") == 0
    assert guest.at(buffer, 4) == b"abc\0"


def test_an_assertion(tmp_path: Path, capfdbinary: Capture) -> None:
    guest = Guest("mipsel")
    condition, name = guest.data.text("a > 1"), guest.data.text("a.c")
    assert guest.run(HERE, tmp_path, capfdbinary, end=(ASSERT, condition, name, 7)) == 134
    assert guest.last == b'assertion \'"a > 1"\': file "a.c", line 7\n'


def test_hostile(tmp_path: Path, capfdbinary: Capture) -> None:
    guest, name = Guest("mipsel"), str(tmp_path / "file")
    path, handle = guest.data.text(name), 3
    bad = (UNMAPPED, 0xFFFF_FFFC, RAM_END - 4, 0xB800_03F8)  # without a translation, likewise, without an end, a device
    for operation in set(range(26)) - {EXIT, ASSERT}:
        for address in bad:
            guest(None, operation, address, address, address, address)
            guest(None, operation, 5, address, 0xFFFF_FFFF, 0xFFFF_FFFF)
    guest(-1, 99, error=89)  # ENOSYS
    guest(-1, OPEN, UNMAPPED, 0, 0, error=errno.EFAULT)
    guest(-1, OPEN, path, 3, 0, error=errno.EINVAL)
    guest(handle, OPEN, path, RDWR | CREAT, 0o600)
    guest(16, WRITE, handle, RAM_END - 16, 0xFFFF_FFFF)  # as far as there is memory
    guest(-1, WRITE, handle, UNMAPPED, 0xFFFF_FFFF, error=errno.EFAULT)
    guest(0, LSEEK, handle, 0, 0)
    guest(-1, READ, handle, UNMAPPED, 8, error=errno.EFAULT)
    guest(-1, LSEEK, handle, 0, 3, error=errno.EINVAL)
    guest(-1, FSTAT, handle, UNMAPPED, error=errno.EFAULT)
    guest(-1, PREAD, handle, DATA, 4, 0x8000_0000, error=errno.EINVAL)
    guest(-1, ARGN, 0, UNMAPPED, error=errno.EFAULT)
    assert guest.run(HERE, tmp_path, capfdbinary) == 0


@pytest.mark.parametrize("code", [1, 2])
def test_where_it_is_off(code: int) -> None:
    m = Machine()
    m.cpu.machine.semihosting = None
    m.put(0x1000, word("sdbbp", code=code))
    m.cpu.status = 0
    m.start(KSEG0 + 0x1000)
    assert m.run() == (RI, KSEG0 + 0x1000)
    m.close()


@pytest.mark.parametrize("userspace", [False, True])
def test_unprivileged_code_may_where_the_user_says_so(userspace: bool) -> None:
    m = Machine()
    m.cpu.machine.semihosting = SimpleNamespace(userspace=userspace, arguments=[b"one"])
    m.cpu.status, m.cpu.r[25] = UM, ARGC
    if userspace:
        semihosting_call(m.cpu)
        assert m.cpu.r[2] == 1
    else:
        with pytest.raises(Fault):
            semihosting_call(m.cpu)
    m.close()
