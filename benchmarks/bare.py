"""Bare-metal loops (benchmarks/loops) of each target: assembled with binutils, run to their end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Failure, to_end

SOURCES = Path(__file__).parent / "loops"
EMPTY = "empty"
"""The loop that does nothing: what starting and stopping costs."""
MODEL = {"avx": ["-cpu", "max"]}
"""Options of loops whose name begins so."""
TIMEOUT = 300.0


@dataclass(frozen=True)
class Family:
    """What a target's loops are, are assembled with and run on. They end the machine themselves."""

    folder: str
    loops: tuple[str, ...]
    package: str
    """Debian's, which brings the tools."""
    tools: str
    """What their names begin with."""
    assembler: tuple[str, ...]
    emulation: str
    """The linker's."""
    console: tuple[str, ...]
    """Options that send what the loop prints to the character device `console`."""
    status: int = 0
    """The emulator's, when the loop ended."""
    loader: str = ""
    """The file format that the machine's loader takes, where it is another than the linker's."""

    def missing(self) -> list[str]:
        """Tools that are not installed."""
        names = ["as", "ld", "objcopy"] if self.loader else ["as", "ld"]
        return [tool for name in names if shutil.which(tool := self.tools + name) is None]


FAMILIES = {
    "x86_64": Family(
        folder="x86",
        loops=tuple(
            "alu memory call flags indirect sse_scalar sse_packed avx_packed avx_memory rep_movs random_loads x87 x87_denormals".split()
        ),
        package="binutils",
        tools="",
        assembler=("--64",),
        emulation="elf_x86_64",
        console=("-device", "isa-debugcon,iobase=0xe9,chardev=console", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        status=0x10 << 1 | 1,
        loader="elf32-i386",
    ),
    "aarch64": Family(
        folder="aarch64",
        loops=tuple("alu memory call flags fp_scalar neon_packed random_loads".split()),
        package="binutils-aarch64-linux-gnu",
        tools="aarch64-linux-gnu-",
        assembler=(),
        emulation="aarch64linux",
        console=("-serial", "chardev:console"),
    ),
    "mipsel": Family(
        folder="mips",
        loops=tuple("alu memory call branches fpu".split()),
        package="binutils-mipsel-linux-gnu",
        tools="mipsel-linux-gnu-",
        assembler=("-march=24kf", "-mabi=32", "-G0"),
        emulation="elf32ltsmip",
        console=("-serial", "chardev:console"),
    ),
}
"""By target."""


@dataclass(frozen=True)
class Variant:
    """A family's loops, in code of so many bits where it has more than one kind."""

    target: str
    bits: int = 0

    @property
    def family(self) -> Family:
        """The target's."""
        return FAMILIES[self.target]

    def __str__(self) -> str:
        """As the rows of tables say it."""
        return str(self.bits or self.target)


def assemble(name: str, variant: Variant, scale: int, folder: Path) -> Path:
    """The loop as an ELF file that the machine's loader takes."""
    family = variant.family
    own = folder / family.folder
    own.mkdir(exist_ok=True)
    for source in (SOURCES / family.folder).iterdir():
        text = source.read_text()
        (own / source.name).write_text(text.replace("%R", "%e" if variant.bits == 32 else "%r"))
    kernel = own / f"{name}{variant.bits or ''}.elf"
    linked = Path(f"{kernel}64") if family.loader else kernel
    symbols = ["--defsym", f"BITS={variant.bits}", "--defsym", f"SCALE={scale}"]
    made = [family.tools + "as", *family.assembler, *symbols, "-I", str(own), "-o", f"{kernel}.o", str(own / f"{name}.S")]
    subprocess.run(made, check=True)
    link = [family.tools + "ld", "-m", family.emulation, "--no-warn-rwx-segments", "-z", "noexecstack", "-z", "max-page-size=4096"]
    subprocess.run([*link, "-T", str(own / "loop.ld"), "-o", str(linked), f"{kernel}.o"], check=True)
    if family.loader:
        subprocess.run([family.tools + "objcopy", "-O", family.loader, str(linked), str(kernel)], check=True)
    return kernel


def options(family: Family, kernel: Path, output: Path) -> list[str]:
    """The emulator's, to run the loop and write what it prints to `output`."""
    model = MODEL.get(kernel.stem.partition("_")[0], [])
    console = ["-chardev", f"file,id=console,path={output}", *family.console]
    return [*model, "-kernel", str(kernel), *console, "-display", "none", "-no-reboot", "-m", "64"]


def run(emulator: Sequence[str], family: Family, kernel: Path) -> tuple[int, float]:
    """Instructions that the loop says it did, and CPU seconds. Raises Failure."""
    output = kernel.with_suffix(".console")
    output.unlink(missing_ok=True)
    cost = to_end([*emulator, *options(family, kernel, output)], family.status, TIMEOUT)
    text = output.read_text()
    try:
        return int(text, 16), cost.cpu
    except ValueError:
        raise Failure(f"{emulator[0]}: the loop printed {text!r}, not how many instructions it did") from None
