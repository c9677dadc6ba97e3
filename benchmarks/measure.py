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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    cpu: float
    """User and system seconds of every process of the session."""
    wall: float
    resident: int
    """Bytes: the sum of the processes' largest resident sets."""


class Failure(Exception):
    """A run that did not get where it should."""


def emulators() -> dict[str, list[str]]:
    """The commands to compare, by name: those that are installed. `interpreter` is Exuvia without compiled regions."""
    ours = Path(sys.executable).with_name("exuvia-system-x86_64")
    found = {"exuvia": [str(ours)], "interpreter": [str(ours), "-accel", "software,regions=off"]} if ours.exists() else {}
    if qemu := shutil.which("qemu-system-x86_64"):
        found["qemu"] = [qemu, "-accel", "tcg"]
    return found


def session_cost(leader: int, started: float) -> Cost:
    """What the session's processes have cost so far, those that ended and were waited for included."""
    ticks = resident = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != leader:
                continue
            ticks += sum(map(int, fields[11:15]))
            resident += next(
                (int(line.split()[1]) * 1024 for line in (folder / "status").read_text().splitlines() if line.startswith("VmHWM")), 0
            )
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return Cost(ticks / TICK, time.monotonic() - started, resident)


def until(command: Sequence[str], mark: bytes, timeout: float) -> Cost:
    """Runs `command` on a terminal until it prints `mark`, then ends it. Raises Failure with the last lines."""
    master, slave = pty.openpty()
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""
    try:
        while mark not in seen:
            left = timeout - (time.monotonic() - started)
            ready = select.select([master], [], [], max(0, left))[0]
            if not ready:
                raise Failure(f"{command[0]}: no {mark!r} within {timeout:.0f} s; it ended with {seen[-300:]!r}")
            try:
                seen += os.read(master, 65536)
            except OSError:
                raise Failure(f"{command[0]}: ended without {mark!r}; its last words were {seen[-300:]!r}") from None
        return session_cost(process.pid, started)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        os.close(master)


def to_end(command: Sequence[str], status: int, timeout: float) -> Cost:
    """Runs `command` to its end, which must be with `status`. Raises Failure."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
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
