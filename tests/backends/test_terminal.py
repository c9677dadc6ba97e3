"""The terminal is what it was before, however the process ends."""

import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

PROGRAM = """
import os, sys, time
from exuvia.backends.chardev.chardev import chardevs
backend = chardevs["stdio"]("x", {"signal": sys.argv[1]})
got = []
backend.connect(got.append)
backend.open(lambda work: work())
os.write(1, b"ready")
while not got:
    time.sleep(0.01)
os.write(1, b"[" + got[0] + b"]")
if sys.argv[2] == "raise":
    raise ZeroDivisionError
if sys.argv[2] == "exit":
    os._exit(3)
if sys.argv[2] == "abort":
    os.abort()
if sys.argv[2] == "close":
    backend.close()
if sys.argv[2] == "sleep":
    time.sleep(60)
"""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def expect(fd: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        seen += os.read(fd, 1024)


def settled(fd: int, wanted: list[Any]) -> bool:
    end = time.monotonic() + 10
    while termios.tcgetattr(fd) != wanted:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("ending", ["raise", "exit", "abort", "close", "kill"])
@pytest.mark.parametrize("signals", ["on", "off"])
def test_restored(terminal: tuple[int, int], ending: str, signals: str) -> None:
    master, slave = terminal
    before = termios.tcgetattr(slave)
    command = [sys.executable, "-c", PROGRAM, signals, "sleep" if ending == "kill" else ending]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL) as process:
        expect(master, b"ready")
        flags = termios.tcgetattr(slave)[3]
        assert not flags & (termios.ICANON | termios.ECHO)
        assert bool(flags & termios.ISIG) == (signals == "on")
        os.write(master, b"k")
        expect(master, b"[k]")
        if ending == "kill":
            process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert settled(slave, before)


def test_ctrl_c_goes_to_the_guest(terminal: tuple[int, int]) -> None:
    """With signal=off it is a byte like any other."""
    master, slave = terminal
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "off", "close"], stdin=slave, stdout=slave) as process:
        expect(master, b"ready")
        os.write(master, b"\x03")
        expect(master, b"[\x03]")
        assert process.wait(20) == 0
