"""What a second processor brings: a loop on one processor, then on two at once, Exuvia and QEMU TCG in turn; medians over rounds.

    .venv/bin/python benchmarks/processors.py [--rounds 5] [--loop alu memory locked] [--scale 60] [--output FOLDER]

Throughput is by wall time, so nothing else should run. Where something does, the work done in a CPU second says what of it the second
processor costs, and `busy`, CPU time by wall time, how much of the host the emulator got.
What an emulator takes to start and stop is measured with loops that are done at once, and subtracted. Writes processors.json and
processors.svg.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.chart import bars
from benchmarks.measure import Cost, Failure, emulators, to_end

ROOT = Path(__file__).parents[1]
SOURCE, PROGRAMS = ROOT / "benchmarks" / "loops" / "x86" / "processors.S", ROOT / "tests" / "guests" / "programs"
LOOPS = dict(alu=8, memory=7, locked=3)  # instructions of a round
PASS = 0x10 << 1 | 1
TIMEOUT = 300.0


def assemble(loop: str, processors: int, scale: int, folder: Path) -> Path:
    """The loop as a 32-bit ELF file for multiboot."""
    kernel = folder / f"{loop}{processors}.{scale}.elf"
    count = f"({LOOPS[loop]} * ROUNDS{' / 8' if loop == 'locked' else ''})"
    text = SOURCE.read_text().replace("LOOP\n", f"{loop}\n").replace("COUNT", count)
    source = folder / f"{kernel.stem}.S"
    source.write_text(text)
    symbols = ["--defsym", f"PROCESSORS={processors}", "--defsym", f"SCALE={scale}"]
    subprocess.run(["as", "--64", *symbols, "-I", str(PROGRAMS), "-o", f"{kernel}.o", str(source)], check=True)
    link = ["ld", "-m", "elf_x86_64", "--no-warn-rwx-segments", "-z", "noexecstack", "-z", "max-page-size=4096"]
    subprocess.run([*link, "-T", str(PROGRAMS / "guest.ld"), "-o", f"{kernel}64", f"{kernel}.o"], check=True)
    subprocess.run(["objcopy", "-O", "elf32-i386", f"{kernel}64", str(kernel)], check=True)
    return kernel


def run(emulator: list[str], kernel: Path, processors: int) -> tuple[int, Cost]:
    """Instructions that the loops say they did, and what they cost. Raises Failure."""
    output = kernel.with_suffix(".console")
    output.unlink(missing_ok=True)
    console = ["-chardev", f"file,id=console,path={output}", "-device", "isa-debugcon,iobase=0xe9,chardev=console"]
    ending = ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-display", "none", "-no-reboot", "-m", "64", "-cpu", "max"]
    cost = to_end([*emulator, "-smp", str(processors), "-kernel", str(kernel), *console, *ending], PASS, TIMEOUT)
    return int(output.read_text(), 16), cost


def main() -> int:
    """Runs the benchmark; 1 if a loop failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", nargs="+", default=list(LOOPS), choices=list(LOOPS))
    parser.add_argument("--scale", type=int, default=60, help="how long the loops are")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()
    if missing := [tool for tool in ("as", "ld", "objcopy") if shutil.which(tool) is None]:
        print(f"processors: {', '.join(missing)} not found; install binutils", file=sys.stderr)
        return 1
    chosen = {name: command for name, command in emulators().items() if name != "interpreter"}
    mips: dict[str, dict[str, list[float]]] = {}
    work: dict[str, dict[str, list[float]]] = {}
    busy: dict[str, list[float]] = {}
    status = 0
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(args.rounds):
            for loop in args.loop:
                for name, command in chosen.items():
                    for processors in (1, 2):
                        try:
                            _, empty = run(command, assemble(loop, processors, 0, Path(scratch)), processors)
                            count, full = run(command, assemble(loop, processors, args.scale, Path(scratch)), processors)
                        except Failure as failure:
                            print(f"{loop} on {processors}: {failure}", file=sys.stderr)
                            status = 1
                            continue
                        wall, cpu = max(full.wall - empty.wall, 1e-3), full.cpu - empty.cpu
                        row = f"{loop} on {processors}"
                        mips.setdefault(row, {}).setdefault(name, []).append(count / wall / 1e6)
                        work.setdefault(row, {}).setdefault(name, []).append(count / max(cpu, 1e-3) / 1e6)
                        busy.setdefault(f"{row}, {name}", []).append(cpu / wall)
                        text = f"{count / wall / 1e6:9.0f} MIPS, {count / cpu / 1e6:9.0f} in a CPU second, busy {cpu / wall:.2f}"
                        print(f"{loop:<7} on {processors} {name:<7} {text}", flush=True)
    medians = {row: {e: round(statistics.median(s), 1) for e, s in by.items()} for row, by in mips.items()}
    ratios = {
        f"{loop}, {name}": [ratio(by[f"{loop} on 1"][name], by[f"{loop} on 2"][name]) for by in (mips, work)]
        for loop in args.loop
        for name in chosen
        if all(name in mips.get(f"{loop} on {n}", {}) for n in (1, 2))
    }
    args.output.mkdir(parents=True, exist_ok=True)
    found = {"mips": medians, "two to one": ratios, "busy": busy, "runs": mips, "in a CPU second": work, "scale": args.scale}
    (args.output / "processors.json").write_text(json.dumps(found, indent=1) + "\n")
    bars(args.output / "processors.svg", "One and two processors", "MIPS, more is better", medians)
    for what, (by_wall, by_cpu) in ratios.items():
        print(f"{what:<16} two processors do {by_wall:.2f} times what one does, and in a CPU second {by_cpu:.2f} times")
    return status


def ratio(one: list[float], two: list[float]) -> float:
    """Of what two processors do to what one does, the median over rounds."""
    return round(statistics.median(b / a for a, b in zip(one, two, strict=False)), 2)


if __name__ == "__main__":
    sys.exit(main())
