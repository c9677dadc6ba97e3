"""Assembles the programs of `programs/`, runs them on a machine and returns what they printed to port E9h.

A program ends by writing 10h to isa-debug-exit at port F4h, which makes the emulator's exit status 33.
A comment `# QEMU differs: "name", "name"` names lines (by what stands before their colon) where the manual and QEMU 7.2 disagree; the
recorded text is the manual's there. `# kvm-pvm differs: ...` does the same for KVM without hardware, and
`# QEMU cannot: why`, `# KVM cannot: ...`, `# kvm-pvm cannot: ...` say where a program cannot run.
`# options: ...` adds command-line options.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
PASS = 0x10 << 1 | 1
CONSOLE = "-device isa-debug-exit,iobase=0xf4,iosize=4 -display none -no-reboot -m 64".split()


def names(processors: bool = True) -> list[str]:
    """The programs, by name; on wish without those for several processors."""
    found = sorted(path.stem for path in PROGRAMS.glob("*.S"))
    return [name for name in found if processors or "-smp" not in options(name)]


def source(name: str) -> str:
    """A program's text."""
    return (PROGRAMS / f"{name}.S").read_text()


def expected(name: str) -> str:
    """What it must print."""
    return (PROGRAMS / f"{name}.txt").read_text()


def differs(name: str, where: str = "QEMU") -> set[str]:
    """The names of the lines that are printed differently there."""
    return set(re.findall(r'"([^"]*)"', " ".join(re.findall(rf"# {where} differs: (.*)", source(name)))))


def cannot(name: str, where: str = "QEMU") -> str | None:
    """Why the program cannot run there, or None."""
    found = re.search(rf"# {where} cannot: (.*)", source(name))
    return found[1] if found else None


def options(name: str) -> list[str]:
    """Further options of the command line."""
    return " ".join(re.findall(r"# options: (.*)", source(name))).split()


def assemble(name: str, folder: Path, programs: Path = PROGRAMS) -> Path:
    """A program of a folder as an ELF file for multiboot, made by binutils' as, ld and objcopy."""
    target = folder / f"{name}.elf"
    wide = f"{target}64"  # 64-bit code needs 64-bit relocations; multiboot needs a 32-bit ELF
    subprocess.run(["as", "--64", "-I", str(PROGRAMS), "-o", f"{target}.o", str(programs / f"{name}.S")], check=True)
    link = ["ld", "-m", "elf_x86_64", "--no-warn-rwx-segments", "-z", "noexecstack", "-z", "max-page-size=4096"]
    subprocess.run([*link, "-T", str(PROGRAMS / "guest.ld"), "-o", wide, f"{target}.o"], check=True)
    subprocess.run(["objcopy", "-O", "elf32-i386", wide, str(target)], check=True)
    return target


def run(program: Sequence[str], kernel: Path, name: str, timeout: float, cpu: str = "max") -> tuple[str, int]:
    """What the guest printed and the emulator's exit status. Raises subprocess.TimeoutExpired."""
    output = kernel.with_suffix(".console")
    output.unlink(missing_ok=True)
    console = ["-chardev", f"file,id=console,path={output}", "-device", "isa-debugcon,iobase=0xe9,chardev=console"]
    words = [*program, "-kernel", str(kernel), "-cpu", cpu, *CONSOLE, *console, *options(name)]
    done = subprocess.run(words, timeout=timeout, stdin=subprocess.DEVNULL)
    return output.read_text(errors="replace"), done.returncode


def lines(text: str, without: set[str]) -> list[str]:
    """The lines, except those whose name is in `without`."""
    return [line for line in text.splitlines() if line.split(":")[0] not in without]
