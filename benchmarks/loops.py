"""Millions of guest instructions a second in bare-metal loops with paging on: Exuvia and QEMU TCG in turn, medians over rounds.

    .venv/bin/python benchmarks/loops.py [--target x86_64 aarch64 mipsel] [--rounds 3] [--loop alu ...] [--bits 64 32] [--scale 60]
        [--output FOLDER]

The loops of benchmarks/loops are assembled with binutils (as, ld, objcopy; of other architectures Debian's packages for cross development).
What an emulator takes to start and stop is measured with an empty loop and subtracted; `--only interpreter` shows Exuvia without compiled
regions. Writes loops.json and loops.svg.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bare import EMPTY, FAMILIES, Variant, assemble, run
from benchmarks.chart import bars
from benchmarks.measure import EMULATORS, Failure, emulators

LOOPS = list(dict.fromkeys(loop for family in FAMILIES.values() for loop in family.loops))
MOST = 200
"""Times 20 million rounds."""


class Loops:
    """What was measured."""

    def __init__(self, commands: dict[str, dict[str, list[str]]], scale: int) -> None:
        self.commands, self.scale = commands, scale
        self.speeds: dict[str, dict[str, list[float]]] = {}
        self.failed = False

    def prepare(self, variant: Variant, loops: Sequence[str], folder: Path) -> dict[str, Path]:
        """The loops and the empty one, assembled, and run once: what an emulator compiles once is not what is measured."""
        kernels = {name: assemble(name, variant, self.scale, folder) for name in [EMPTY, *loops]}
        for kernel in kernels.values():
            for start in self.commands[variant.target].values():
                with contextlib.suppress(Failure):
                    run(start, variant.family, kernel)
        return kernels

    def measure(self, variant: Variant, kernels: Mapping[str, Path]) -> None:
        """A round: each loop on each emulator in turn."""
        base: dict[str, float] = {}
        for name, kernel in kernels.items():
            row = f"{name} {variant}"
            for emulator, start in self.commands[variant.target].items():
                try:
                    count, cpu = run(start, variant.family, kernel)
                except Failure as failure:
                    print(f"{row}: {failure}", file=sys.stderr)
                    self.failed = True
                    continue
                if name == EMPTY:
                    base[emulator] = cpu
                    continue
                speed = count / max(cpu - base.get(emulator, 0), 1e-3) / 1e6
                self.speeds.setdefault(row, {}).setdefault(emulator, []).append(speed)
                print(f"{row:<20} {emulator:<11} {speed:9.0f} MIPS ({cpu:.2f} s)", flush=True)

    def report(self, output: Path) -> None:
        """The medians, as files and printed."""
        medians = {name: {e: round(statistics.median(s), 1) for e, s in row.items()} for name, row in self.speeds.items()}
        output.mkdir(parents=True, exist_ok=True)
        (output / "loops.json").write_text(json.dumps({"mips": medians, "runs": self.speeds, "scale": self.scale}, indent=1) + "\n")
        bars(output / "loops.svg", "Bare-metal loops", "MIPS, more is better", medians)
        for name, row in medians.items():
            ratio = f"  {row['exuvia'] / row['qemu']:.2f} times QEMU" if {"exuvia", "qemu"} <= row.keys() else ""
            print(f"{name:<20} " + "  ".join(f"{e} {v:.0f}" for e, v in row.items()) + ratio)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 if a loop failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--target", nargs="+", default=["x86_64"], choices=list(FAMILIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", nargs="+", default=LOOPS, choices=LOOPS, help="some of them, where the target has them")
    parser.add_argument("--bits", nargs="+", type=int, default=[64], choices=[64, 32], help="of x86 code")
    parser.add_argument("--scale", type=int, default=60, help="how long the loops are")
    parser.add_argument("--only", nargs="+", choices=EMULATORS, help="some of the emulators")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args(arguments)
    if not 0 < args.scale <= MOST:
        parser.error(f"--scale: 1 to {MOST}, the loops count in 32 bits")
    wanted = {target: [loop for loop in FAMILIES[target].loops if loop in args.loop] for target in args.target}
    for target, loops in wanted.items():
        if not loops:
            parser.error(f"--loop: {target} has {', '.join(FAMILIES[target].loops)}")
        if missing := FAMILIES[target].missing():
            print(f"loops: {', '.join(missing)} not found; install {FAMILIES[target].package}", file=sys.stderr)
            return 1
    names = args.only or ("exuvia", "qemu")
    commands = {target: {name: command for name, command in emulators(target).items() if name in names} for target in wanted}
    measured = Loops(commands, args.scale)
    variants = [Variant(target, bits) for target in wanted for bits in (args.bits if target == "x86_64" else [0])]
    with tempfile.TemporaryDirectory() as scratch:
        kernels = {variant: measured.prepare(variant, wanted[variant.target], Path(scratch)) for variant in variants}
        for _ in range(args.rounds):
            for variant in variants:
                measured.measure(variant, kernels[variant])
    measured.report(args.output)
    return int(measured.failed)


if __name__ == "__main__":
    sys.exit(main())
