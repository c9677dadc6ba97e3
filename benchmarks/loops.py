"""Millions of guest instructions a second in bare-metal loops with paging on: Exuvia and QEMU TCG in turn, medians over rounds.

    .venv/bin/python benchmarks/loops.py [--rounds 3] [--loop alu ...] [--bits 64 32] [--scale 60] [--output FOLDER]

The loops of benchmarks/loops are assembled with binutils (as, ld, objcopy). What an emulator takes to start and stop is measured with an
empty loop and subtracted; `--only interpreter` shows Exuvia without compiled regions. Writes loops.json and loops.svg.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.chart import bars
from benchmarks.measure import EMULATORS, Failure, emulators, to_end

SOURCES = Path(__file__).parent / "loops"
LOOPS = "alu memory call flags indirect sse_scalar sse_packed avx_packed avx_memory rep_movs random_loads x87 x87_denormals".split()
PASS = 0x10 << 1 | 1
MODEL = {"avx": ["-cpu", "max"]}
"""Options of loops whose name begins so."""
TIMEOUT = 300.0


def assemble(name: str, bits: int, scale: int, folder: Path) -> Path:
    """The loop as a 32-bit ELF file for multiboot."""
    for source in SOURCES.iterdir():
        text = source.read_text()
        (folder / source.name).write_text(text.replace("%R", "%r" if bits == 64 else "%e"))
    kernel = folder / f"{name}{bits}.elf"
    symbols = ["--defsym", f"BITS={bits}", "--defsym", f"SCALE={scale}"]
    subprocess.run(["as", "--64", *symbols, "-I", str(folder), "-o", f"{kernel}.o", str(folder / f"{name}.S")], check=True)
    link = ["ld", "-m", "elf_x86_64", "--no-warn-rwx-segments", "-z", "noexecstack", "-z", "max-page-size=4096"]
    subprocess.run([*link, "-T", str(folder / "loop.ld"), "-o", f"{kernel}64", f"{kernel}.o"], check=True)
    subprocess.run(["objcopy", "-O", "elf32-i386", f"{kernel}64", str(kernel)], check=True)
    return kernel


def run(emulator: list[str], kernel: Path) -> tuple[int, float]:
    """Instructions that the loop says it did, and CPU seconds. Raises Failure."""
    output = kernel.with_suffix(".console")
    output.unlink(missing_ok=True)
    console = ["-chardev", f"file,id=console,path={output}", "-device", "isa-debugcon,iobase=0xe9,chardev=console"]
    ending = ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-display", "none", "-no-reboot", "-m", "64"]
    model = MODEL.get(kernel.stem.partition("_")[0], [])
    cost = to_end([*emulator, *model, "-kernel", str(kernel), *console, *ending], PASS, TIMEOUT)
    return int(output.read_text(), 16), cost.cpu


def main() -> int:
    """Runs the benchmark; 1 if a loop failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", nargs="+", default=LOOPS, choices=LOOPS)
    parser.add_argument("--bits", nargs="+", type=int, default=[64], choices=[64, 32])
    parser.add_argument("--scale", type=int, default=60, help="how long the loops are")
    parser.add_argument("--only", nargs="+", choices=EMULATORS, help="some of the emulators")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()
    if missing := [tool for tool in ("as", "ld", "objcopy") if shutil.which(tool) is None]:
        print(f"loops: {', '.join(missing)} not found; install binutils", file=sys.stderr)
        return 1
    chosen = {n: c for n, c in emulators().items() if n in (args.only or ("exuvia", "qemu"))}
    speeds: dict[str, dict[str, list[float]]] = {}
    status = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kernels = {f"{name}{bits}": assemble(name, bits, args.scale, folder) for bits in args.bits for name in ["empty", *args.loop]}
        for kernel in kernels.values():  # what an emulator compiles once is not what is measured
            for start in chosen.values():
                with contextlib.suppress(Failure):
                    run(start, kernel)
        for _ in range(args.rounds):
            for bits in args.bits:
                base: dict[str, float] = {}
                for name in ["empty", *args.loop]:
                    for emulator, start in chosen.items():
                        try:
                            count, cpu = run(start, kernels[f"{name}{bits}"])
                        except Failure as failure:
                            print(f"{name} {bits}-bit: {failure}", file=sys.stderr)
                            status = 1
                            continue
                        if name == "empty":
                            base[emulator] = cpu
                            continue
                        speed = count / max(cpu - base.get(emulator, 0), 1e-3) / 1e6
                        speeds.setdefault(f"{name} {bits}", {}).setdefault(emulator, []).append(speed)
                        print(f"{name:<13} {bits}-bit {emulator:<7} {speed:9.0f} MIPS ({cpu:.2f} s)", flush=True)
    medians = {name: {e: round(statistics.median(s), 1) for e, s in row.items()} for name, row in speeds.items()}
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "loops.json").write_text(json.dumps({"mips": medians, "runs": speeds, "scale": args.scale}, indent=1) + "\n")
    bars(args.output / "loops.svg", "Bare-metal loops", "MIPS, more is better", medians)
    for name, row in medians.items():
        ratio = f"  {row['exuvia'] / row['qemu']:.2f} times QEMU" if {"exuvia", "qemu"} <= row.keys() else ""
        print(f"{name:<16} " + "  ".join(f"{e} {v:.0f}" for e, v in row.items()) + ratio)
    return status


if __name__ == "__main__":
    sys.exit(main())
