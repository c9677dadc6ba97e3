"""Programs inside Alpine and Debian amd64: CPU seconds of Exuvia and of QEMU TCG for each program alone, in turn, medians over rounds.

    .venv/bin/python benchmarks/programs.py [--rounds 3] [--program sha256 lame ...] [--output FOLDER]

In a round both emulators boot a guest and then run one program after the other in turn, each program once, so that nothing that ran before
in that machine helps. Before the rounds Exuvia does it with an empty store of generated code (*cold*), and again until that hardly
grows. Alpine runs its own busybox, Debian programs of its packages (apt-get fetches them) and C programs that the host's gcc compiled for
plain x86-64; the chosen programs decide what is fetched and compiled. What a program prints must be the same everywhere. Writes
programs.json and programs.svg. CPU seconds are user and system time of all processes of an emulator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from math import exp, log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.chart import bars
from benchmarks.measure import Cost, Failure, Terminal, emulators, settle
from benchmarks.workload import PROGRAMS, Guests, Program
from exuvia.support.errors import UserError

TIMEOUT = 600.0
QUIET = 0.2, 0.03
"""A machine is at rest, and its compile workers too, once so many seconds cost no more than this."""


class Run:
    """A guest in an emulator, waiting for the names of programs."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        terminal.expect(b"@ready", TIMEOUT)
        self.rest()

    def rest(self) -> None:
        """Wait until nothing is left to do. Raises Failure where that does not come."""
        end = time.monotonic() + TIMEOUT
        before = self.terminal.cost().cpu
        while time.monotonic() < end:
            time.sleep(QUIET[0])
            now = self.terminal.cost().cpu
            if now - before <= QUIET[1]:
                return
            before = now
        raise Failure(f"{self.terminal.command}: still busy after {TIMEOUT:.0f} s")

    def program(self, name: str) -> tuple[Cost, str]:
        """What a program cost, and what it printed. Raises Failure where its status is not 0."""
        before = self.terminal.cost()
        self.terminal.say(name.encode() + b"\n")
        self.terminal.expect(b"@begin", TIMEOUT)
        printed = self.terminal.expect(b"@end ", TIMEOUT).decode(errors="replace").replace("\r", "").strip()
        wall = self.terminal.cost().wall - before.wall
        if (status := self.terminal.expect(b"\n", TIMEOUT).strip()) != b"0":
            raise Failure(f"{self.terminal.command}: {name} ended with {status.decode(errors='replace')}: {printed[-300:]}")
        self.rest()
        after = self.terminal.cost()
        return Cost(after.cpu - before.cpu, wall, after.resident), printed


class Programs:
    """Runs and what they cost: program -> what was run -> costs."""

    def __init__(self, chosen: dict[str, list[str]], guests: Guests, programs: list[Program]) -> None:
        self.chosen, self.guests, self.programs = chosen, guests, programs
        self.costs: dict[str, dict[str, list[Cost]]] = {program.name: {} for program in programs}
        self.printed: dict[str, str] = {}
        self.failed = 0

    def all(self, labels: dict[str, str]) -> None:
        """Every program once, in turn, in the emulators that `labels` gives a label."""
        for guest in dict.fromkeys(program.guest for program in self.programs):
            with ExitStack() as stack:
                running: dict[str, Run] = {}
                for emulator in labels:
                    try:
                        terminal = stack.enter_context(Terminal(self.guests.command(self.chosen[emulator], guest)))
                        running[emulator] = Run(terminal)
                    except Failure as failure:
                        self.complain(f"{guest}: {failure}")
                for program in self.programs:
                    for emulator, label in labels.items():
                        if program.guest == guest and emulator in running:
                            self.one(running, emulator, label, program.name)

    def one(self, running: dict[str, Run], emulator: str, label: str, name: str) -> None:
        """One program. A machine in which it fails is not asked again."""
        try:
            cost, printed = running[emulator].program(name)
        except Failure as failure:
            del running[emulator]
            self.complain(str(failure))
            return
        if self.printed.setdefault(name, printed) != printed:
            self.complain(f"{emulator}: {name} printed {printed!r}, and before {self.printed[name]!r}")
        self.costs[name].setdefault(label, []).append(cost)
        print(f"{name:<20} {label:<8} {cost.cpu:7.2f} s CPU {cost.wall:7.2f} s", flush=True)

    def complain(self, what: str) -> None:
        """A run that is not right."""
        print(what, file=sys.stderr, flush=True)
        self.failed = 1

    def medians(self) -> dict[str, dict[str, float]]:
        """CPU seconds."""
        return {
            name: {label: round(statistics.median(cost.cpu for cost in costs), 3) for label, costs in row.items()}
            for name, row in self.costs.items()
        }

    def report(self, folder: Path) -> None:
        """The table, programs.json and programs.svg. What was not run is told as nan."""
        medians = self.medians()
        ratios = {
            label: {name: round(row["qemu"] / row[label], 3) for name, row in medians.items() if {label, "qemu"} <= row.keys()}
            for label in ("exuvia", "cold")
        }
        means: dict[str, dict[str, float]] = {}
        for kind in dict.fromkeys(program.kind for program in self.programs):
            print(f"\n{kind:<20} " + " ".join(f"{label:>8}" for label in ("qemu", "exuvia", "cold", "ratio", "cold")))
            for name in (program.name for program in self.programs if program.kind == kind):
                row = [medians[name].get(label, float("nan")) for label in ("qemu", "exuvia", "cold")]
                row += [ratios[label].get(name, float("nan")) for label in ("exuvia", "cold")]
                print(f"{name:<20} " + " ".join(f"{value:8.2f}" for value in row))
            for label, each in ratios.items():
                if of := [each[program.name] for program in self.programs if program.kind == kind and program.name in each]:
                    means.setdefault(kind, {})[label] = round(exp(sum(map(log, of)) / len(of)), 3)
            if means.get(kind):
                print(f"{kind}: " + ", ".join(f"{label} {mean:.2f} times QEMU's speed" for label, mean in means[kind].items()))
        folder.mkdir(parents=True, exist_ok=True)
        each_run = {name: {label: [vars(cost) for cost in costs] for label, costs in row.items()} for name, row in self.costs.items()}
        result = {"means": means, "ratios": ratios, "cpu": medians, "packages": self.guests.versions, "runs": each_run}
        (folder / "programs.json").write_text(json.dumps(result, indent=1) + "\n")
        shown = {name: {label: value for label, value in row.items() if label in self.chosen} for name, row in medians.items()}
        bars(folder / "programs.svg", "Programs in a guest", "CPU seconds, less is better", shown)


def main() -> int:
    """Runs the benchmark; 1 if a program failed or printed something else."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", nargs="+", choices=[program.name for program in PROGRAMS], help="some of the programs")
    parser.add_argument("--only", nargs="+", choices=("exuvia", "qemu"), help="one of the emulators")
    parser.add_argument("--store", type=Path, help="keep the store of generated code there; if it is there already, begin with it")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()
    programs = [program for program in PROGRAMS if not args.program or program.name in args.program]
    with tempfile.TemporaryDirectory() as scratch:
        store = args.store.absolute() if args.store else Path(scratch) / "cache"
        wanted = args.only or ("exuvia", "qemu")
        chosen = {name: ["env", f"XDG_CACHE_HOME={store}", *command] for name, command in emulators().items() if name in wanted}
        try:
            runs = Programs(chosen, Guests(Path(scratch), programs), programs)
        except UserError as error:
            print(f"programs: {error}", file=sys.stderr)
            return 1
        if "exuvia" in chosen and not store.exists():
            runs.all({"exuvia": "cold"})
            settle(store, lambda: runs.all({"exuvia": "filling"}))
        for _ in range(args.rounds):
            runs.all({name: name for name in chosen})
        runs.report(args.output)
        return runs.failed


if __name__ == "__main__":
    sys.exit(main())
