"""The monitor: keys, commands and what they say."""

from types import SimpleNamespace
from typing import Any

import pytest

from exuvia.backends.chardev.chardev import Chardev
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.monitor.monitor import PROMPT, Monitor, commands


class Screen(Chardev):
    def __init__(self) -> None:
        super().__init__("screen")
        self.shown = ""

    def write(self, data: bytes) -> None:
        self.shown += data.decode("latin-1")


def high_half(cpu: Any, address: int, read: Any) -> int | None:
    return address - 0xFFFF_8000_0000_0000 if address >> 63 else None


class Machine:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.status = "running"
        self.config = None
        self.asked: list[Any] = []
        self.memory = AddressSpace()
        ram = Ram(1 << 16)
        self.memory.map_ram(0, 1 << 16, ram)
        self.memory.write_bytes(0x1000, bytes(range(64)) + b"Hi\n\x80")
        self.vcpus = [
            SimpleNamespace(index=n, halted=n == 1, describe=lambda n=n: f"RIP={n:016x}\n", counters=lambda n=n: {"exits pio_in": 7 + n})
            for n in range(2)
        ]
        self.devices = {
            "rtc": SimpleNamespace(name="mc146818"),
            "pm": SimpleNamespace(name="piix4", press_power_button=lambda: self.asked.append("button")),
        }

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def request_reset(self, reason: str = "") -> None:
        self.asked.append("reset")

    def exit(self, status: int) -> None:
        self.asked.append(status)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def monitor(machine: Machine, screen: Screen) -> Monitor:
    made = Monitor(machine, screen, high_half)
    made.start()
    screen.shown = ""
    return made


def test_the_commands() -> None:
    assert list(commands()) == "cont cpu help info quit stop system_powerdown system_reset x xp".split()
    assert all(function.__doc__ for function in commands().values())


def test_requests(monitor: Monitor, machine: Machine) -> None:
    for line in ("stop", "cont", "system_reset", "system_powerdown", "quit"):
        monitor.execute(line)
    assert machine.asked == ["pause", "resume", "reset", "button", 0]


def test_keys(monitor: Monitor, screen: Screen) -> None:
    screen.deliver(b"infx\x7fo ver\x15info status\r")
    assert screen.shown.endswith(f"info status\r\nVM status: running\r\n{PROMPT}")
    screen.shown = ""
    screen.deliver(b"\x1b[A\r")
    assert "VM status: running" in screen.shown, "the arrow brings the last line back"
    screen.shown = ""
    screen.deliver(b"\x1b[A\x1b[B\r")
    assert screen.shown.endswith(f"{PROMPT}\r\n{PROMPT}"), "and down goes to the empty one"


def test_keys_are_bounded(monitor: Monitor, screen: Screen) -> None:
    for _ in range(100):
        screen.deliver(b"a" * 1000)
    assert len(screen.shown) == 4096


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("inof", "unknown command 'inof' (did you mean info?)"),
        ("info statsu", "unknown subject 'statsu' (did you mean status?)"),
        ("stop now", "usage: stop"),
        ("cpu", "usage: cpu index"),
        ("cpu 2", "there is no processor 2"),
        ("info registers", "RIP=0000000000000000"),
        ("info cpus", "* CPU #0:\r\n  CPU #1: (halted)"),
        ("info jit", "exits pio_in             7"),
        ("info mtree", "0000000000000000-000000000000ffff ram"),
        ("info qtree", "rtc: mc146818\r\npm: piix4"),
        ("help stop", "stop -- stop the processors and virtual time"),
        ("xp 0x1004", "0000000000001004: 0x07060504"),
        ("xp /2xg 0x1000", "0000000000001000: 0x0706050403020100 0x0f0e0d0c0b0a0908"),
        ("xp /10xb 0x1000", "0000000000001000: " + " ".join(f"0x{n:02x}" for n in range(8)) + "\r\n0000000000001008: 0x08 0x09"),
        ("xp /4c 0x1040", r"0000000000001040: 'H' 'i' '\x0a' '\x80'"),
        ("xp /1db 0x1043", "0000000000001043: -128"),
        ("xp 0x10000", "0000000000010000: 0xffffffff"),
        ("x /1xw 0xffff800000001004", "ffff800000001004: 0x07060504"),
        ("x 0x1000", "nothing is mapped at 0x1000"),
        ("xp /99999xg 0", "at most 65536 bytes are shown, below 2**64"),
        ("xp /xz 0", "a format is /COUNT, one of x d u o c and a size b h w g, not '/xz'"),
        ("xp rip", "'rip' is no address"),
    ],
)
def test_answers(monitor: Monitor, screen: Screen, line: str, answer: str) -> None:
    monitor.execute(line)
    assert screen.shown == f"{answer}\r\n"


def test_another_processor(monitor: Monitor, screen: Screen) -> None:
    monitor.execute("cpu 1")
    monitor.execute("info registers")
    assert screen.shown == "RIP=0000000000000001\r\n"
