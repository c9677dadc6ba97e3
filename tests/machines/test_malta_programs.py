"""Programs on a whole malta, in both byte orders: the serial port, an interrupt of Count and Compare, and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from exuvia.cli.system import run
from tests.boot.images import elf
from tests.isa.mips.assembler import li, mfc0, mtc0, word

ENTRY = 0x8010_0000
UART, SOFTRES = 0xB800_03F8, 0xBF00_0500
IE, IP7 = 1, 1 << 15


def put(text: str) -> list[int]:
    """Characters to the serial port at s0."""
    return [w for c in text for w in (word("addiu", rt="t0", imm=ord(c)), word("sb", rt="t0", base="s0"))]


def program() -> list[int]:
    """Prints, waits for the timer, prints from its handler, powers off; the text is stored and read again as a word."""
    handler = [*put(" timer"), *li("t0", SOFTRES), word("addiu", rt="t1", imm=0x42), word("sw", rt="t1", base="t0"),
               word("beq", branch=-1), 0]  # fmt: skip
    start = [
        *li("s0", UART), *li("t0", 0x4142_4344), *li("s1", 0x8020_0000), word("sw", rt="t0", base="s1"), word("lbu", rt="t1", base="s1"),
        word("sb", rt="t1", base="s0"),
    ]  # fmt: skip
    copy = li("t2", 0x8000_0180)
    for w in handler:
        copy += [*li("t0", w), word("sw", rt="t0", base="t2"), word("addiu", rt="t2", rs="t2", imm=4)]
    timer = [
        *li("t0", 0x8000_0000), mtc0("t0", "ebase"), mfc0("t0", "count"), *li("t1", 200_000), word("addu", rd="t0", rs="t0", rt="t1"),
        mtc0("t0", "compare"), *li("t0", IP7 | IE), mtc0("t0", "status"), word("wait"), word("beq", branch=-2), 0,
    ]  # fmt: skip
    return start + copy + put(" ready") + timer


@pytest.mark.parametrize(("target", "order", "first"), [("mipsel", "little", "D"), ("mips", "big", "A")])
def test_a_program(tmp_path: Path, target: str, order: str, first: str) -> None:
    code = b"".join(w.to_bytes(4, order) for w in program())  # type: ignore[arg-type]
    kernel, console = tmp_path / "kernel", tmp_path / "console"
    kernel.write_bytes(elf(32, [(ENTRY, ENTRY, code, len(code))], ENTRY, machine=8, big_endian=order == "big"))
    status = run(
        "exuvia",
        target,
        ["-M", "malta", "-m", "64", "-kernel", str(kernel), "-display", "none", "-no-reboot", "-serial", f"file:{console}"],
    )
    assert status == 0
    assert console.read_text() == f"{first} ready timer"
