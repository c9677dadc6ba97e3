"""Work on disk images: exuvia-img and qemu-img in turn on the same data, medians over rounds.

    .venv/bin/python benchmarks/images.py [--size 4G] [--rounds 3] [--task PATTERN ...] [--folder FOLDER] [--output FOLDER]

Three data sets of one size: `sparse` (one MiB in 16 has random data), `random`, `text` (compressible, about 3 to 1). Three images show what
a cluster costs, where small ones show what a command's start does: `scattered`, a qcow2 16 times as large with every sixteenth cluster
written in random order, `fine`, with clusters of 4 KiB of which every other is there, and `full`, 256 times as large with preallocated
metadata. What is done to their tables is done to those of images of a sixteenth, too: the difference is what a cluster of data costs.
Sources are in the page cache, targets are new; a run that does not count made room for them, and programs take turns in being first. Random
4 KiB requests go through exuvia-io and qemu-io. The last tasks work on a sparse image of 2 TiB. Writes images.json and images.svg: wall and
CPU seconds, the largest resident set, and ratios: qemu's seconds through ours. Some 0.03 CPU seconds of each of ours are Python's start.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.chart import bars
from benchmarks.measure import ENVIRONMENT
from exuvia.disk.options import size as parse_size

MIB = 1 << 20
REQUESTS = 20_000
"""Random requests of 4 KiB."""
Program = tuple[str, list[str]]
"""Its name, and how it is called."""
SETS = ("sparse", "random", "text")


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds, seconds, bytes."""

    wall: float
    cpu: float
    resident: int


@dataclass(frozen=True)
class Task:
    """`words` are the command's, with `{}` for the target, a new file each time; `script` is its standard input, for qemu-io."""

    name: str
    words: str
    tool: str = "img"
    script: str = ""
    status: tuple[int, ...] = (0,)
    clusters: int = 0  # of data that its image has more than one of a sixteenth


def tools() -> dict[str, dict[str, list[str]]]:
    """The commands by tool and program: those that are there."""
    found: dict[str, dict[str, list[str]]] = {}
    for tool in ("img", "io"):
        found[tool] = {}
        if find_spec("exuvia.cli." + tool):
            code = f"from exuvia.cli.{tool}.main import main; main()"
            found[tool]["exuvia"] = [sys.executable, "-c", code]
        if path := shutil.which(f"qemu-{tool}"):
            found[tool]["qemu"] = [path]
    return found


def data(path: Path, size: int) -> None:
    """One of the three sets, as a raw file."""
    rng = random.Random(1)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(4000)]
    texts = [" ".join(rng.choices(words, k=MIB // 4)).encode()[:MIB] for _ in range(16)]
    makers: dict[str, Callable[[int], bytes | None]] = {
        "sparse": lambda n: rng.randbytes(MIB) if n % 16 == 3 else None,
        "random": lambda n: rng.randbytes(MIB),
        "text": lambda n: texts[n % 16],
        "fine": lambda n: (rng.randbytes(4096) + bytes(4096)) * (MIB >> 13),
    }
    make = makers[path.stem]
    with open(path, "wb") as file:
        for number in range(size // MIB):
            if (block := make(number)) is not None:
                file.seek(number * MIB)
                file.write(block)
        file.truncate(size)


def requests(size: int, word: str) -> str:
    """A script for qemu-io: random places, the same for everybody."""
    rng = random.Random(2)
    return "".join(f"{word} -q {rng.randrange(size // 4096) * 4096} 4096\n" for _ in range(REQUESTS)) + "quit\n"


def tasks(size: int) -> list[Task]:
    """All of them; sources are made by qemu-img, so that both read the same."""
    found = []
    for name in SETS:
        found.append(Task(f"raw→qcow2 {name}", f"convert -f raw -O qcow2 {name}.raw {{}}"))
        found.append(Task(f"qcow2→raw {name}", f"convert -f qcow2 -O raw {name}.qcow2 {{}}"))
    for name in ("sparse", "random"):
        found += [Task(f"{kind}→qcow2 {name}", f"convert -f {kind} -O qcow2 {name}.{kind} {{}}") for kind in ("vmdk", "vdi", "vhdx")]
    found += [
        Task("raw→vmdk random", "convert -f raw -O vmdk random.raw {}"),
        Task("raw→vdi random", "convert -f raw -O vdi random.raw {}"),
        Task("raw→vhdx random", "convert -f raw -O vhdx random.raw {}"),
        Task("raw→stream vmdk text", "convert -f raw -O vmdk -o subformat=streamOptimized text.raw {}"),
        Task("stream vmdk→raw text", "convert -f vmdk -O raw text.stream.vmdk {}"),
        Task("convert -c zlib text", "convert -c -f raw -O qcow2 text.raw {}"),
        Task("convert -c zstd text", "convert -c -f raw -O qcow2 -o compression_type=zstd text.raw {}"),
        Task("qcow2 zlib→raw text", "convert -f qcow2 -O raw text.zlib.qcow2 {}"),
        Task("compare raw qcow2 random", "compare -f raw -F qcow2 random.raw random.qcow2"),
        Task("compare raw vmdk sparse", "compare -f raw -F vmdk sparse.raw sparse.vmdk"),
        Task("check qcow2 random", "check -f qcow2 random.qcow2"),
        Task("map qcow2 sparse", "map -f qcow2 --output=json sparse.qcow2"),
        *(
            Task(f"{command} qcow2 {image}", f"{words} -f qcow2 {image}.qcow2", clusters=clusters // 16 * 15)
            for image, clusters in (("scattered", size >> 16), ("fine", size >> 13), ("full", size >> 8))
            for command, words in MAPS.items()
        ),
        Task("compare qcow2 scattered", "compare -f qcow2 -F qcow2 scattered.qcow2 scattered.qcow2"),
        Task("qcow2→raw scattered", "convert -f qcow2 -O raw scattered.qcow2 {}"),
        Task("qcow2→raw fine", "convert -f qcow2 -O raw fine.qcow2 {}"),
        Task("map vmdk sparse", "map -f vmdk --output=json sparse.vmdk"),
        Task("measure qcow2 sparse", "measure -f raw -O qcow2 sparse.raw"),
        Task("4 KiB reads qcow2", "-f qcow2 -r random.qcow2", "io", requests(size, "read")),
        Task("4 KiB writes qcow2", "-f qcow2 random.scratch.qcow2", "io", requests(size, "write")),
        Task("4 KiB reads raw", "-f raw -r random.raw", "io", requests(size, "read")),
        Task("4 KiB reads vmdk", "-f vmdk -r random.vmdk", "io", requests(size, "read")),
        Task("bench reads qcow2", f"bench -f qcow2 -c {REQUESTS * 5} -d 64 -s 4k -S 1052672 random.qcow2"),
        Task("bench writes qcow2", f"bench -w -f qcow2 -c {REQUESTS * 5} -d 64 -s 4k -S 1052672 random.scratch.qcow2"),
        Task("2 TiB convert", "convert -f qcow2 -O qcow2 huge.qcow2 {}"),
        *(Task(f"2 TiB {command}", f"{words} -f qcow2 huge.qcow2") for command, words in MAPS.items()),
        Task("2 TiB vmdk map", "map -f vmdk --output=json huge.vmdk"),
        Task("2 TiB vmdk→qcow2", "convert -f vmdk -O qcow2 huge.vmdk {}"),
    ]
    return found


MAPS = {"check": "check", "map": "map --output=json", "map text": "map", "measure": "measure -O qcow2"}
"""What goes through tables and not through data."""
SMALL = "small/"
"""The folder of images of a sixteenth."""
RECIPES = {
    **{f"{name}.{kind}": f"convert -f raw -O {kind} {name}.raw" for name in SETS for kind in ("qcow2", "vmdk", "vdi", "vhdx")},
    "text.stream.vmdk": "convert -f raw -O vmdk -o subformat=streamOptimized text.raw",
    "text.zlib.qcow2": "convert -c -f raw -O qcow2 text.raw",
    "full.qcow2": "create -q -f qcow2 -o preallocation=metadata",
    "fine.qcow2": "convert -f raw -O qcow2 -o cluster_size=4k fine.raw",
    "random.scratch.qcow2": "convert -f raw -O qcow2 random.raw",
}
"""Images that tasks read, by qemu-img, of raw ones."""


def source(folder: Path, name: str, size: int) -> None:
    """Make what a task reads, and what that is made of, unless it is there."""
    path = folder / name
    if path.exists():
        return
    if name.startswith(SMALL):
        (folder / SMALL).mkdir(exist_ok=True)
        source(folder / SMALL, name.removeprefix(SMALL), size // 16)
    elif name == "full.qcow2":
        subprocess.run(["qemu-img", *RECIPES[name].split(), name, str(size * 256)], cwd=folder, check=True)
    elif name in RECIPES:
        source(folder, f"{name.partition('.')[0]}.raw", size)
        subprocess.run(["qemu-img", *RECIPES[name].split(), name], cwd=folder, check=True)
    elif name == "scattered.qcow2":
        scattered(folder, size)
    elif path.stem == "huge":
        subprocess.run(["qemu-img", "create", "-q", "-f", path.suffix[1:], name, "2T"], cwd=folder, check=True)
        writes = [word for at in range(0, 2048, 64) for word in ("-c", f"write -q {at}G 1M")]
        subprocess.run(["qemu-io", "-f", path.suffix[1:], *writes, name], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    else:
        data(path, size)


def read_by(task: Task) -> set[str]:
    """Names of the files that a task reads."""
    found = {word for word in task.words.split() if word.partition(".")[0] in (*SETS, "scattered", "fine", "full", "huge") and "." in word}
    return found | {SMALL + word for word in found if task.clusters}


def smaller(task: Task) -> Task:
    """The same with images of a sixteenth."""
    return replace(task, words=" ".join(SMALL + word if word in read_by(task) else word for word in task.words.split()))


def scattered(folder: Path, size: int) -> None:
    """A disk 16 times as large, of which every sixteenth cluster is written, in random order, as guests do in the course of years."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "scattered.qcow2", str(16 * size)], cwd=folder, check=True)
    rng, clusters = random.Random(3), 16 * size >> 16
    lines = "".join(f"write -q {rng.randrange(clusters) << 16} 4096\n" for _ in range(clusters // 16))
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "scattered.qcow2"], cwd=folder, input=lines + "quit\n", text=True, check=True, stdout=subprocess.DEVNULL
    )


class Watcher(threading.Thread):
    """Asks ten times a second how large a process has been: what wait4 says counts us, its parent, too."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.path, self.resident = Path(f"/proc/{pid}/status"), 0
        self.start()

    def run(self) -> None:
        while True:
            time.sleep(0.1 if self.resident else 0.02)
            try:
                lines = self.path.read_text().splitlines()
            except OSError:
                return
            found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
            if not found:
                return
            self.resident = max(self.resident, *found)


def run(command: list[str], folder: Path, task: Task) -> Cost:
    """One run of a task. Raises RuntimeError with what it said where it fails."""
    target = folder / "target"
    for left in folder.glob("target*"):
        left.unlink()
    os.sync()
    words = [str(target) if word == "{}" else word for word in task.words.split()]
    with tempfile.TemporaryFile() as script, tempfile.TemporaryFile() as errors:
        script.write(task.script.encode())
        script.seek(0)
        environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[1])}
        started = time.monotonic()
        process = subprocess.Popen([*command, *words], cwd=folder, env=environment, stdin=script, stdout=subprocess.DEVNULL, stderr=errors)
        watcher = Watcher(process.pid)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in task.status:
            errors.seek(0)
            raise RuntimeError(
                f"{' '.join([*command, *words])} ended with {process.returncode}: {errors.read()[-500:].decode(errors='replace')}"
            )
    return Cost(wall, usage.ru_utime + usage.ru_stime, watcher.resident)


def main() -> int:
    """Runs the benchmark; 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=parse_size, default=4 << 30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", nargs="+", default=["*"], help="patterns of names")
    parser.add_argument("--folder", type=Path, help="where the data goes, some 7 times the size (a temporary folder)")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    programs, failed = tools(), 0
    wanted = [task for task in tasks(args.size) if any(fnmatch.fnmatchcase(task.name, f"*{pattern}*") for pattern in args.task)]
    costs: dict[str, dict[str, list[Cost]]] = {}
    small: dict[str, dict[str, list[Cost]]] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        for at, task in enumerate(wanted):
            later = {name for each in wanted[at:] for name in read_by(each)}
            for left in folder.rglob("*.*"):  # so that what is read stays in the page cache
                if str(left.relative_to(folder)) not in later:
                    left.unlink()
            for each in sorted(read_by(task)):
                source(folder, each, args.size)
            for (program, command), counts in turns(list(programs[task.tool].items()), args.rounds, "{}" in task.words):
                try:
                    cost = run(command, folder, task)
                    if counts:
                        costs.setdefault(task.name, {}).setdefault(program, []).append(cost)
                    if task.clusters:
                        small.setdefault(task.name, {}).setdefault(program, []).append(run(command, folder, smaller(task)))
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    failed = 1
            print(line(task.name, costs.get(task.name, {})), flush=True)
            if task.clusters:
                each = per_cluster(task, costs.get(task.name, {}), small.get(task.name, {}))
                print("    CPU ns for a cluster: " + "  ".join(f"{name} {value:.3g}" for name, value in each.items()), flush=True)
    each = {task.name: per_cluster(task, costs.get(task.name, {}), small.get(task.name, {})) for task in wanted if task.clusters}
    report(args.output, args.size, costs, each)
    return failed


def turns(programs: list[Program], rounds: int, writes: bool) -> Iterator[tuple[Program, bool]]:
    """Who runs next, and whether that counts: whoever is the first to write after sources were made pays for room in the page cache."""
    if writes:
        yield programs[-1], False
    for number in range(rounds):
        for program in programs[:: -1 if number % 2 else 1]:
            yield program, True


def median(costs: list[Cost]) -> Cost:
    """The run in the middle by wall time."""
    return sorted(costs, key=lambda cost: cost.wall)[(len(costs) - 1) // 2]


def ratios(costs: dict[str, list[Cost]]) -> dict[str, float]:
    """qemu's wall and CPU time through ours: 1 and more is what we want."""
    if not costs.get("qemu") or not costs.get("exuvia"):
        return {}
    wall = {name: statistics.median(cost.wall for cost in each) for name, each in costs.items()}
    cpu = {name: statistics.median(cost.cpu for cost in each) for name, each in costs.items()}
    return {"ratio": wall["qemu"] / wall["exuvia"], "cpu ratio": cpu["qemu"] / cpu["exuvia"]}


def per_cluster(task: Task, costs: dict[str, list[Cost]], small: dict[str, list[Cost]]) -> dict[str, float]:
    """CPU nanoseconds for each cluster of data, by program, without what a command's start takes; and their ratio."""
    cpu = {
        name: [statistics.median(cost.cpu for cost in each.get(name, ())) for each in (costs, small)] for name in costs if small.get(name)
    }
    found = {name: (large - less) / task.clusters * 1e9 for name, (large, less) in cpu.items()}
    if found.get("exuvia") and found.get("qemu"):
        found["ratio"] = found["qemu"] / found["exuvia"]
    return found


def line(name: str, costs: dict[str, list[Cost]]) -> str:
    """A row for people."""
    parts = [f"{name:<26}"]
    for program, each in costs.items():
        cost = median(each)
        parts.append(f"{program} {cost.wall:7.2f} s, CPU {cost.cpu:7.2f} s, {cost.resident / 1e6:4.0f} MB")
    return "  ".join(parts + [f"{name} {value:.2f}" for name, value in ratios(costs).items()])


def report(folder: Path, size: int, costs: dict[str, dict[str, list[Cost]]], each: dict[str, dict[str, float]]) -> None:
    """images.json and images.svg."""
    result = {
        name: {
            **{program: asdict(median(runs)) for program, runs in programs.items()},
            **ratios(programs),
            **({"nanoseconds for a cluster": each[name]} if name in each else {}),
        }
        for name, programs in costs.items()
    }
    (folder / "images.json").write_text(
        json.dumps({"size": size, "requests": REQUESTS, "tasks": result}, indent=2, ensure_ascii=False) + "\n"
    )
    shown = {name: {program: median(runs).wall for program, runs in programs.items()} for name, programs in costs.items()}
    bars(folder / "images.svg", f"Disk images, {size / (1 << 30):g} GiB", "seconds, less is better", shown)


if __name__ == "__main__":
    sys.exit(main())
