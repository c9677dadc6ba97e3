"""Several processors in a real guest: boots under random kicks, pauses and dropped blocks, and what is left of a machine that is ended."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError

BOOTS = 20
COMMAND = "for n in 1 2 3 4; do (for k in 1 2 3 4 5 6 7 8; do head -c 300000 /bin/busybox | sha256sum; done | sort -u) & done; wait; exit 5"
DISTURBED = """
import argparse, random, sys, threading, time
from exuvia.cli import run

r = random.Random(int(sys.argv[1]))

def disturb(machine):
    while machine.status != "shutdown" and not over.is_set():
        time.sleep(r.random() / 50)
        what = r.randrange(5)
        if what < 2:
            r.choice(machine.vcpus).kick()
        elif what == 2:
            machine.post(lambda: None)
        elif what == 3:
            machine.pause()
            time.sleep(r.random() / 200)
            machine.resume()
        else:
            machine.post(lambda: machine.vcpus[0].on_full())

def ready(machine, console):
    thread.append(threading.Thread(target=disturb, args=(machine,)))
    thread[0].start()
    machine.at_end.append(over.set)

over, thread = threading.Event(), []
parser = argparse.ArgumentParser()
run.arguments(parser)
status = run.run(parser.parse_args(["alpine", "--smp", sys.argv[2], "--exec", sys.argv[3]]), ready)
over.set()
thread[0].join()
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
sys.exit(status)
"""


def files() -> dict[str, Path]:
    """Alpine's."""
    try:
        return cache.fetch(guest("alpine"), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_boots_under_random_kicks() -> None:
    files()
    lines = set()
    for seed in range(BOOTS):
        words = [sys.executable, "-c", DISTURBED, str(seed), str(2 + seed % 3), COMMAND]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600, check=False)
        assert done.returncode == 5, (seed, done.stdout[-2000:], done.stderr[-2000:])
        assert len(done.stdout.splitlines()) == 4, (seed, done.stdout)
        lines |= set(done.stdout.splitlines())
    assert len(lines) == 1, lines
    assert len(lines.pop().split()[0]) == hashlib.sha256().digest_size * 2


@pytest.mark.timeout(120)
def test_a_machine_that_is_ended_while_all_run_leaves_nothing() -> None:
    """It is asked in the middle of its boot, with two processors in native code and workers beside it."""
    found = files()
    program = [sys.executable, "-c", "import sys; from exuvia.cli.system import x86_64; sys.exit(x86_64())", "-smp", "2"]
    kernel = ["-kernel", str(found["kernel"]), "-initrd", str(found["initrd"]), "-append", "rdinit=/bin/sh console=ttyS0 no_timer_check"]
    words = [*program, *kernel, "-m", "512", "-display", "none", "-serial", "stdio", "-no-reboot"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as machine:
        assert machine.stdout
        text = b""
        while b"Brought up 1 node, 2 CPUs" not in text:
            more = os.read(machine.stdout.fileno(), 4096)
            assert more, text[-2000:]
            text += more
        machine.terminate()
        machine.stdout.read()
        assert machine.wait() == 128 + 15
    assert not left(machine.pid)


def left(session: int) -> list[str]:
    """Processes of a session that are still there after a while."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(stat.parent.name)
        if not found:
            return []
        time.sleep(0.1)
    return found
