"""Runs an emulator in a session of its own and reads what all its processes cost: CPU seconds and the largest resident set."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")}
"""Of what is measured: users keep compiled modules, which else take 0.3 s of each process, and buffers."""


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    cpu: float
    """User and system seconds of the emulator and of every process that it started."""
    wall: float
    resident: int
    """Bytes: the sum of the processes' largest resident sets."""


class Failure(Exception):
    """A run that did not get where it should."""


SETTLING, SETTLED = 12, 0.003
"""Runs that fill a store of regions, at most, and by how much of itself one may still make it grow that is the last of them."""


def settle(store: Path, run: Callable[[], object]) -> None:
    """Do a run again and again, until few new regions are found."""
    size = 0
    for _ in range(SETTLING):
        run()
        before, size = size, sum(path.stat().st_size for path in (store / "exuvia").rglob("*.regions/*"))
        if size - before <= size * SETTLED:
            break


EMULATORS = ("exuvia", "interpreter", "qemu")
ALIKE = {"aarch64": ["-machine", "virt", "-cpu", "cortex-a57"], "mips": ["-cpu", "24Kf"], "mipsel": ["-cpu", "24Kf"]}
"""What makes both emulate the same, where that is not what they do by themselves."""


def emulators(target: str = "x86_64") -> dict[str, list[str]]:
    """The commands to compare, by name: those that are installed. `interpreter` is Exuvia without compiled regions."""
    ours, options = Path(sys.executable).with_name(f"exuvia-system-{target}"), ALIKE.get(target, [])
    found = {}
    if ours.exists():
        found = {"exuvia": [str(ours), *options], "interpreter": [str(ours), *options, "-accel", "software,regions=off"]}
    if qemu := shutil.which(f"qemu-system-{target}"):
        found["qemu"] = [qemu, *options, "-accel", "tcg"]
    return found


def cost_of(leader: int, started: float) -> Cost:
    """What a process and all that descend from it have cost so far, those that ended and were waited for included."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            parents[int(folder.name)], ticks[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    family = {leader}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    resident = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        resident += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
    return Cost(sum(ticks.get(pid, 0) for pid in family) / TICK, time.monotonic() - started, resident)


class Terminal:
    """An emulator in a session of its own, on a terminal that is its serial console. `with` ends it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command[0]
        self.master, slave = pty.openpty()
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=ENVIRONMENT)
        os.close(slave)
        self.seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.master)

    def say(self, text: bytes) -> None:
        """Type something."""
        os.write(self.master, text)

    def expect(self, mark: bytes, timeout: float) -> bytes:
        """Reads until `mark` comes; what came before it. Raises Failure with the last lines."""
        end = time.monotonic() + timeout
        while mark not in self.seen:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise Failure(f"{self.command}: no {mark!r} within {timeout:.0f} s; it ended with {self.seen[-300:]!r}")
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                raise Failure(f"{self.command}: ended without {mark!r}; its last words were {self.seen[-300:]!r}") from None
        before, _, self.seen = self.seen.partition(mark)
        return before

    def cost(self) -> Cost:
        """What it has cost so far."""
        return cost_of(self.process.pid, self.started)


def until(command: Sequence[str], mark: bytes, timeout: float) -> Cost:
    """Runs `command` on a terminal until it prints `mark`, then ends it. Raises Failure with the last lines."""
    with Terminal(command) as terminal:
        terminal.expect(mark, timeout)
        return terminal.cost()


def to_end(command: Sequence[str], status: int, timeout: float) -> Cost:
    """Runs `command` to its end, which must be with `status`. Raises Failure."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=ENVIRONMENT
    )
    timer_end = started + timeout
    try:
        while True:  # wait4 gives the cost of exactly this child and of what it waited for
            pid, state, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > timer_end:
                raise Failure(f"{command[0]}: did not end within {timeout:.0f} s")
            time.sleep(0.005)
    except Failure:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(state)
    assert process.stdout
    output = process.stdout.read()
    process.stdout.close()
    if process.returncode != status:
        raise Failure(f"{command[0]}: exit status {process.returncode}, not {status}: {output[-300:].decode(errors='replace')}")
    return Cost(usage.ru_utime + usage.ru_stime, time.monotonic() - started, usage.ru_maxrss * 1024)
