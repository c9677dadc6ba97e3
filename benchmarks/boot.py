"""Boots to a shell prompt on the serial console: Exuvia, its interpreter alone, and QEMU TCG in turn in one run, medians over rounds.

    .venv/bin/python benchmarks/boot.py [--rounds 3] [--guest alpine ...] [--output FOLDER]

Before the rounds Exuvia boots each guest with an empty store of generated code, then with handlers but no regions, and then until the
store has settled; those are reported apart. Writes boot.json and boot.svg. CPU seconds are user and system time of all processes of the
emulator; memory is the sum of their largest resident sets.
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
from benchmarks.measure import EMULATORS, Cost, Failure, emulators, settle, until
from exuvia.boot import arm64
from exuvia.guests import cache
from exuvia.guests.catalog import guest

GUESTS = ("alpine", "debian-amd64", "debian-i386", "alpine-arm64", "debian-arm64", "debian-mipsel")
LARGEST = 256 << 20  # bytes of a kernel
PROMPT = b" # "
TIMEOUT = 600.0


def command(emulator: list[str], name: str, memory: int, folder: Path) -> list[str]:
    """The command line that boots a guest from the cache. Raises Failure where it is not there."""
    chosen = guest(name)
    files = cache.find(chosen)
    if files is None:
        raise Failure(f"{name} is not in the cache; fetch it with: exuvia guests fetch {name}")
    image = Path(files["kernel"])
    if chosen.target == "aarch64":  # not every QEMU unpacks a kernel for EFI
        packed, image = image, folder / name
        if not image.exists():
            image.write_bytes(arm64.unpack(str(packed), packed.read_bytes(), LARGEST))
    console = next(word for word in chosen.append.split() if word.startswith("console="))
    kernel = ["-kernel", str(image), "-initrd", str(files["initrd"]), "-append", f"rdinit=/bin/sh {console}"]
    return [*emulator, *kernel, "-m", str(memory), "-display", "none", "-serial", "stdio", "-no-reboot"]


def main() -> int:
    """Runs the benchmark; 1 if a boot failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guest", nargs="+", default=GUESTS)
    parser.add_argument("--only", nargs="+", choices=EMULATORS, help="some of the emulators")
    parser.add_argument("--memory", type=int, default=512, help="MiB of guest memory")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        return Boots(args, Path(store)).run()


class Boots:
    """Runs and what they cost: guest -> what was run -> costs."""

    def __init__(self, args: argparse.Namespace, store: Path) -> None:
        self.args, self.store = args, store
        self.costs: dict[str, dict[str, list[Cost]]] = {g: {} for g in args.guest}
        self.status = 0

    def chosen(self, name: str) -> dict[str, list[str]]:
        """The emulators of a guest, with a store of their own."""
        target = guest(name).target.replace("i386", "x86_64")
        wanted = self.args.only or EMULATORS
        return {n: ["env", f"XDG_CACHE_HOME={self.store}", *c] for n, c in emulators(target).items() if n in wanted}

    def boot(self, name: str, emulator: str, label: str) -> None:
        """One boot, told and kept under `label`."""
        try:
            cost = until(command(self.chosen(name)[emulator], name, self.args.memory, self.store), PROMPT, TIMEOUT)
        except Failure as failure:
            print(f"{name}: {failure}", file=sys.stderr)
            self.status = 1
            return
        self.costs[name].setdefault(label, []).append(cost)
        print(f"{name:<13} {label:<14} {cost.cpu:7.2f} s CPU {cost.wall:7.2f} s {cost.resident / 1e6:6.0f} MB", flush=True)

    def fill(self, name: str) -> None:
        """The first boots of Exuvia: nothing kept, handlers kept, then until few new regions are found."""
        shutil.rmtree(self.store / "exuvia", ignore_errors=True)
        self.boot(name, "exuvia", "first run")
        for folder in (self.store / "exuvia").rglob("*.regions"):
            shutil.rmtree(folder)
        self.boot(name, "exuvia", "no regions")
        settle(self.store, lambda: self.boot(name, "exuvia", "filling"))

    def run(self) -> int:
        """All boots, the files; 1 if a boot failed."""
        for name in self.args.guest:
            if "exuvia" in self.chosen(name):
                self.fill(name)
            for _ in range(self.args.rounds):
                for emulator in self.chosen(name):
                    self.boot(name, emulator, emulator)
        self.args.output.mkdir(parents=True, exist_ok=True)
        each = {g: {e: [vars(c) for c in costs] for e, costs in row.items()} for g, row in self.costs.items()}
        medians = {unit: self.medians(unit) for unit in ("cpu", "wall", "resident")}
        (self.args.output / "boot.json").write_text(json.dumps({"medians": medians, "runs": each}, indent=1) + "\n")
        shown = {g: {e: v for e, v in row.items() if e in EMULATORS} for g, row in medians["cpu"].items()}
        bars(self.args.output / "boot.svg", "Boot to a shell", "CPU seconds, less is better", shown)
        for name in self.args.guest:
            for label, cpu in medians["cpu"][name].items():
                wall, peer = medians["wall"][name][label], self.costs[name].get("qemu")
                times = (
                    f"{cpu / medians['cpu'][name]['qemu']:.2f} and {wall / medians['wall'][name]['qemu']:.2f} times QEMU" if peer else ""
                )
                print(f"{name:<13} {label:<14} {cpu:7.2f} s CPU {wall:7.2f} s  {times}")
        return self.status

    def medians(self, unit: str) -> dict[str, dict[str, float]]:
        """Of one of a cost's numbers."""
        return {
            g: {e: round(statistics.median(getattr(c, unit) for c in costs), 3) for e, costs in row.items()}
            for g, row in self.costs.items()
        }


if __name__ == "__main__":
    sys.exit(main())
