"""Machines with two processors under random timers, while the store of generated code is deleted and damaged underneath.

It lasts an hour, or as many seconds as EXUVIA_SOAK says. One machine goes on all the time; beside it others boot, work and end, each in a
process of its own, and one process boots again and again. The host is busy and idle by turns, and machines stand for a while.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
KERNEL = r"(.+?)\[ *\d+\.\d{6}\] .*"  # its message goes out between characters of a line that the terminal still holds
PROGRESS = r"\r?\x1b\[2K(compiling [^\r\n]*? forms)?"  # which a terminal shows and clears again
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
        line = f"loglevel=4 {timers} {guest('alpine').command_line(WORK.replace('ROUNDS', str(rounds)))}"
        self.monitor = cache_home / f"monitor-{id(self)}"
        options = "-serial", "stdio", "-smp", "2", "-monitor", f"unix:{self.monitor},server=on,wait=off", "-append", line
        super().__init__(cache_home, *options)
        self.timers, self.round, self.rounds, self.looked, self.begun = timers, 0, 0, 0, ""
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
            text = self.begun + re.sub(PROGRESS, "", line.decode("utf-8", "replace")).strip()
            self.begun = cut[1] if (cut := re.fullmatch(KERNEL, text)) else ""
            self.said(text[len(self.begun) :])

    def said(self, line: str) -> None:
        """A line of its console."""
        assert not re.search(r"exuvia-system|Kernel panic|BUG:|Oops|Call Trace|Traceback", line), f"{self.timers}: {self.text()}"
        if line.startswith("round "):
            self.round, self.rounds = self.round + 1, self.rounds + 1
            assert line == expected(self.round), f"{self.timers}: {self.text()}"
            self.resident.append(anonymous(self.process.pid))

    def stop(self, seconds: float, by_monitor: bool) -> None:
        """Have it stand for so long, if it is there: the machine, or the whole process."""
        with suppress(OSError):
            if by_monitor:
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(str(self.monitor))
                    line.sendall(b"stop\n")
                    time.sleep(seconds)
                    line.sendall(b"cont\n")
                    line.shutdown(socket.SHUT_WR)
                    line.settimeout(10)
                    while line.recv(4096):  # until it has taken all
                        pass
            else:
                self.process.send_signal(signal.SIGSTOP)
                time.sleep(seconds)
                self.process.send_signal(signal.SIGCONT)


class Again(Guest):
    """One process that boots machine after machine. After each it says what it has by then."""

    program = """if True:
        import gc, os, re, sys
        from exuvia.cli.system import run
        while not run("exuvia-system-x86_64", "x86_64", sys.argv[1:]):
            gc.collect()
            resident, = re.findall(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())
            print("has", int(resident) << 10, sum(1 for _ in open("/proc/self/maps")), len(os.listdir("/proc/self/fd")), flush=True)
    """

    def __init__(self, cache_home: Path) -> None:
        super().__init__(cache_home, FEW, "")
        self.has: list[tuple[int, ...]] = []

    def said(self, line: str) -> None:
        if line.startswith("has "):
            assert self.round == FEW, self.text()
            self.round = 0
            self.has.append(tuple(map(int, line.split()[1:])))
        else:
            super().said(line)


def anonymous(pid: int) -> int:
    """Bytes of a process's own memory: not the guest's RAM, which is a shared mapping."""
    with suppress(FileNotFoundError, ProcessLookupError):
        if found := re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) * 1024
    return 0


def damage(code: Path, chance: random.Random) -> None:
    """One of the things that can happen to a cache."""
    with suppress(OSError):  # it is there or not, and a machine may be faster
        if chance.random() < 0.04:
            shutil.rmtree(chance.choice([code, *code.iterdir()]), ignore_errors=True)
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
            bit, data = chance.randrange(8 * file.stat().st_size), bytearray(file.read_bytes())
            data[bit >> 3] ^= 1 << (bit & 7)
            file.write_bytes(data)
        else:
            with file.open("r+b") as opened:
                opened.seek(chance.randrange(file.stat().st_size + 1))
                opened.write(chance.randbytes(1 + chance.randrange(64)))


@contextmanager
def meanwhile(work: Callable[[], object], seed: int, seconds: float) -> Iterator[None]:
    """Something that is done now and then in a thread, `seconds` apart at most."""
    done, chance = threading.Event(), random.Random(seed)
    failed: list[BaseException] = []

    def loop() -> None:
        try:
            while not done.wait(chance.uniform(0.1, seconds)):
                work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not failed, failed


def press(guests: Sequence[Guest], chance: random.Random) -> None:
    """Make timers late: other programs want the host's processors, or a machine stands for a while."""
    seconds = chance.uniform(0, 3)
    if chance.random() < 0.3:
        programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(chance.randrange(1, 4))]
        time.sleep(2 * seconds)
        for program in programs:
            program.kill()
            program.wait()
    else:
        chance.choice(list(guests)).stop(seconds, chance.random() < 0.5)


def must_not_grow(what: str, samples: Sequence[int], by: tuple[float, int] = GROWTH) -> None:
    """The last third is no larger than the second; the first is for warming up."""
    third = len(samples) // 3
    if third:
        before, after = (statistics.median(samples[start : start + third]) for start in (third, 2 * third))
        assert after <= by[0] * before + by[1], f"{what} grew from {before:,.0f} to {after:,.0f}: {samples}"


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
    code, hurt, late = home / "exuvia" / "code", random.Random(seed + 1), random.Random(seed + 2)
    with Guest(home, FOREVER, "") as steady, Again(home) as again:
        guests: list[Guest] = [steady, again]
        with meanwhile(lambda: damage(code, hurt), seed, 6), meanwhile(lambda: press(guests, late), seed, 10):
            while time.monotonic() < end:
                with Guest(home, FEW, chance.choice(TIMERS)) as other:
                    guests.append(other)
                    while other.process.poll() is None:
                        for each in guests:
                            each.look()
                    guests.remove(other)
                    other.look()
                    assert other.process.poll() == 0 and other.round == FEW, f"{other.timers}: {other.text()}"
                    peaks.append(max(other.resident))
                    assert other.nothing_left()
        assert steady.process.poll() is None and again.process.poll() is None and steady.rounds > 2
        print(f"{len(peaks)} boots in processes of their own, {len(again.has)} in one, {steady.rounds} rounds")
        print(f"MB of the steady machine: {[n >> 20 for n in steady.resident]}; of the others: {[n >> 20 for n in peaks]}")
        print(f"after each boot in one process: {[(n >> 20, maps, files) for n, maps, files in again.has]}")
        has = list(zip(*again.has))
    must_not_grow("the steady machine", steady.resident)
    must_not_grow("machines that end", peaks)
    for what, samples, by in zip(("memory", "mappings", "open files"), has, (GROWTH, (1.05, 0), (1.0, 0))):
        must_not_grow(f"from boot to boot, a process's {what}", samples, by)
    assert sum(file.stat().st_size for file in (home / "exuvia" / "code").rglob("*.code")) < store.LIMIT
    with Guest(home, 1, "") as last:  # what damage has left is no trouble for the next one
        while last.process.poll() is None:
            last.look()
        last.look()
        assert last.round == 1 and last.process.poll() == 0, last.text()
