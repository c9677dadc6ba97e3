"""Machines with two processors under random timers, while the store of generated code is deleted and damaged underneath.

It lasts an hour, or as many seconds as EXUVIA_SOAK says. One machine goes on all the time; beside it others boot, work and end.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from exuvia.codegen import store
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError
from tests.cli.booting import Boot, cache_without_regions

DURATION = float(os.environ.get("EXUVIA_SOAK", "3600"))
PATIENCE = 900.0  # seconds without a line from a guest, on a busy host
FEW, FOREVER = 5, 10**9
GROWTH = 1.05, 8 << 20  # by how much the last third of samples may exceed the second: a factor, and bytes
TIMERS = ["", "clocksource=hpet", "clocksource=acpi_pm", "clocksource=jiffies", "nohz=off", "highres=off", "hpet=disable", "nolapic_timer"]
WORK = (
    "for t in 4000 900; do (while :; do usleep $((RANDOM % t)); done) & done; n=0; while [ $n -lt ROUNDS ]; do n=$((n + 1)); "
    "seq $n 9000 | gzip | gunzip | md5sum >/other & p=$!; a=$(seq $n 4000 | sort -r | sha256sum); "
    "c=$(awk 'BEGIN { for (i = 1; i <= 9000; i++) s += sqrt(i * '$n'); print int(s * 1000000) }'); "
    "wait $p; b=$(cut -c 1-32 /other); echo round $n ${a%% *} $b $c; done; echo all rounds; busybox poweroff -f"
)


def expected(n: int) -> str:
    """What a guest has to print in a round."""
    first = hashlib.sha256("".join(sorted((f"{i}\n" for i in range(n, 4001)), reverse=True)).encode()).hexdigest()
    second = hashlib.md5("".join(f"{i}\n" for i in range(n, 9001)).encode()).hexdigest()
    total = 0.0
    for i in range(1, 9001):
        total += math.sqrt(i * n)
    return f"round {n} {first} {second} {int(total * 1000000)}"


class Guest(Boot):
    """Alpine with two processors, working by itself."""

    def __init__(self, cache_home: Path, rounds: int, timers: str) -> None:
        line = f"{timers} {guest('alpine').command_line(WORK.replace('ROUNDS', str(rounds)))}"
        super().__init__(cache_home, "-serial", "stdio", "-smp", "2", "-append", line)
        self.timers, self.round, self.looked = timers, 0, 0
        self.resident: list[int] = []
        self.heard = time.monotonic()

    def look(self) -> None:
        """Take what it said by now: every round must be right."""
        while self.read(0.05):
            self.heard = time.monotonic()
        assert time.monotonic() - self.heard < PATIENCE, f"{self.timers}: it hangs: {self.text()}"
        *lines, rest = self.seen[self.looked :].split(b"\n")
        self.looked = len(self.seen) - len(rest)
        for line in lines:
            assert not re.search(rb"exuvia-system|Kernel panic|BUG:|Oops|Call Trace", line), f"{self.timers}: {self.text()}"
            if line.startswith(b"round "):
                self.round += 1
                assert line.decode().strip() == expected(self.round), f"{self.timers}: {self.text()}"
                self.resident.append(anonymous(self.process.pid))


def anonymous(pid: int) -> int:
    """Bytes of a process's own memory: not the guest's RAM, which is a shared mapping."""
    with suppress(FileNotFoundError, ProcessLookupError):
        if found := re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) * 1024
    return 0


def damage(code: Path, chance: random.Random) -> None:
    """One of the things that can happen to a cache."""
    with suppress(OSError):  # it is there or not, and a machine may be faster
        if chance.random() < 0.1:
            shutil.rmtree(code, ignore_errors=True)
        if not (files := sorted(code.rglob("*.code"))):
            return
        file, what = chance.choice(files), chance.randrange(5)
        if what == 0:
            file.unlink()
        elif what == 1:
            os.truncate(file, chance.randrange(file.stat().st_size + 1))
        elif what == 2:
            file.write_bytes(chance.randbytes(chance.randrange(5000)))
        elif what == 3:
            shutil.rmtree(file.parent)
        else:
            with file.open("r+b") as opened:
                opened.seek(chance.randrange(file.stat().st_size + 1))
                opened.write(chance.randbytes(1 + chance.randrange(64)))


@contextmanager
def damaged(code: Path, seed: int) -> Iterator[None]:
    """Meanwhile the store is damaged every few seconds."""
    done = threading.Event()

    def work() -> None:
        chance = random.Random(seed)
        while not done.wait(chance.uniform(0.1, 6)):
            damage(code, chance)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def must_not_grow(what: str, samples: list[int]) -> None:
    """The last third is no larger than the second; the first is for warming up."""
    third = len(samples) // 3
    if third:
        before, after = (statistics.median(samples[start : start + third]) for start in (third, 2 * third))
        assert after <= GROWTH[0] * before + GROWTH[1], f"{what} grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB: {samples}"


@pytest.mark.soak
@pytest.mark.timeout(DURATION + 2 * PATIENCE)
def test_an_hour(tmp_path: Path) -> None:
    try:
        home = cache_without_regions(tmp_path)
    except UserError as error:
        pytest.skip(str(error))
    seed = int(os.environ.get("EXUVIA_SOAK_SEED", time.time_ns()))
    print(f"EXUVIA_SOAK_SEED={seed}")
    chance, end, peaks = random.Random(seed), time.monotonic() + DURATION, list[int]()
    with damaged(home / "exuvia" / "code", seed), Guest(home, FOREVER, "") as steady:
        while time.monotonic() < end:
            with Guest(home, FEW, chance.choice(TIMERS)) as other:
                while other.process.poll() is None:
                    other.look()
                    steady.look()
                other.look()
                assert other.process.poll() == 0 and other.round == FEW, f"{other.timers}: {other.text()}"
                peaks.append(max(other.resident))
                assert other.nothing_left()
        assert steady.process.poll() is None and steady.round > 2
        print(f"{len(peaks)} boots, {steady.round} rounds")
        print(f"MB of the steady machine: {[n >> 20 for n in steady.resident]}; of the others: {[n >> 20 for n in peaks]}")
    must_not_grow("the steady machine", steady.resident)
    must_not_grow("machines that end", peaks)
    assert sum(file.stat().st_size for file in (home / "exuvia" / "code").rglob("*.code")) < store.LIMIT
    with Guest(home, 1, "") as last:  # what damage has left is no trouble for the next one
        while last.process.poll() is None:
            last.look()
        last.look()
        assert last.round == 1 and last.process.poll() == 0, last.text()
