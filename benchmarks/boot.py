"""CPU seconds to a shell prompt on the serial console: Exuvia and QEMU TCG in turn in one run, medians over rounds.

    .venv/bin/python benchmarks/boot.py [--rounds 3] [--guest alpine ...] [--output FOLDER]

Exuvia's very first run, with an empty store of generated code, is measured once and apart; the rounds have a filled one.
Writes boot.json and boot.svg. Seconds are user and system time of all processes of the emulator; memory is their largest resident set.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.chart import bars
from benchmarks.measure import Cost, Failure, emulators, until
from exuvia.guests import cache
from exuvia.guests.catalog import guest

GUESTS = ("alpine", "debian-amd64", "debian-i386")
PROMPT = b" # "
TIMEOUT = 600.0


def command(emulator: list[str], name: str, memory: int) -> list[str]:
    """The command line that boots a guest from the cache. Raises Failure where it is not there."""
    files = cache.find(guest(name))
    if files is None:
        raise Failure(f"{name} is not in the cache; fetch it with: exuvia guests fetch {name}")
    options = ["-m", str(memory), "-display", "none", "-serial", "stdio", "-no-reboot"]
    return [
        *emulator,
        "-kernel",
        str(files["kernel"]),
        "-initrd",
        str(files["initrd"]),
        "-append",
        "rdinit=/bin/sh console=ttyS0",
        *options,
    ]


def main() -> int:
    """Runs the benchmark; 1 if a boot failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guest", nargs="+", default=GUESTS)
    parser.add_argument("--only", choices=sorted(emulators()), help="just one of the emulators")
    parser.add_argument("--memory", type=int, default=512, help="MiB of guest memory")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        chosen = {n: ["env", f"XDG_CACHE_HOME={store}", *c] for n, c in emulators().items() if args.only in (None, n)}
        return measure(args, chosen, Path(store))


def measure(args: argparse.Namespace, chosen: dict[str, list[str]], store: Path) -> int:
    """The first runs, the rounds, the files; 1 if a boot failed."""
    runs: dict[str, dict[str, list[Cost]]] = {g: {e: [] for e in chosen} for g in args.guest}
    first: dict[str, float] = {}
    status = 0
    for name in args.guest if "exuvia" in chosen else ():
        shutil.rmtree(store / "exuvia", ignore_errors=True)
        try:
            first[name] = until(command(chosen["exuvia"], name, args.memory), PROMPT, TIMEOUT).cpu
        except Failure as failure:
            print(f"{name}: {failure}", file=sys.stderr)
            status = 1
            continue
        print(f"first {name:<13} exuvia  {first[name]:7.2f} s CPU", flush=True)
        until(command(chosen["exuvia"], name, args.memory), PROMPT, TIMEOUT)
    for turn in range(args.rounds):
        for name in args.guest:
            for emulator, start in chosen.items():
                try:
                    cost = until(command(start, name, args.memory), PROMPT, TIMEOUT)
                except Failure as failure:
                    print(f"{name}: {failure}", file=sys.stderr)
                    status = 1
                    continue
                runs[name][emulator].append(cost)
                label = f"{turn + 1}/{args.rounds} {name:<13} {emulator:<7}"
                print(f"{label} {cost.cpu:7.2f} s CPU {cost.wall:7.2f} s {cost.resident / 1e6:6.0f} MB", flush=True)
    medians = {g: {e: round(statistics.median(c.cpu for c in costs), 3) for e, costs in row.items() if costs} for g, row in runs.items()}
    resident = {g: {e: max(c.resident for c in costs) for e, costs in row.items() if costs} for g, row in runs.items()}
    args.output.mkdir(parents=True, exist_ok=True)
    each = {g: {e: [c.cpu for c in costs] for e, costs in row.items()} for g, row in runs.items()}
    (args.output / "boot.json").write_text(
        json.dumps({"cpu_seconds": medians, "first_run": first, "resident_bytes": resident, "runs": each}, indent=1) + "\n"
    )
    bars(args.output / "boot.svg", "Boot to a shell", "CPU seconds, less is better", medians)
    for name, row in medians.items():
        ratio = f"  {row['exuvia'] / row['qemu']:.2f} times QEMU" if {"exuvia", "qemu"} <= row.keys() else ""
        print(f"{name:<13} " + "  ".join(f"{e} {v:.2f} s" for e, v in row.items()) + ratio)
    return status


if __name__ == "__main__":
    sys.exit(main())
