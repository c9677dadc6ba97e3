"""The commands as a user starts them: statuses, one line for an error, how long they take, signals, what they leave behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exuvia.codegen.engine import build_identity
from exuvia.codegen.store import Store
from exuvia.isa.x86.architecture import architecture

SCRIPT = "import sys; from exuvia.cli.{module} import {name}; sys.argv[0] = '{name}'; {name}()"


def command(module: str, name: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=module, name=name), *words], capture_output=True, text=True, timeout=60
    )


def exuvia(*words: str) -> "subprocess.CompletedProcess[str]":
    return command("main", "main", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runn"], "exuvia: unknown command 'runn' (did you mean run?)\n"),
        (["run"], "exuvia: run needs either the name of a guest or --kernel FILE\n"),
        (["run", "alpine", "--smp", "two"], "exuvia: argument --smp: invalid int value: 'two'\n"),
        (["guests", "fetch", "alpin"], "exuvia: unknown guest 'alpin' (did you mean alpine or alpine-arm64?)\n"),
        (["version", "--loud"], "exuvia: unrecognized arguments: --loud\n"),
    ],
)
def test_errors(words: list[str], message: str) -> None:
    result = exuvia(*words)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", message)


def test_system_errors() -> None:
    result = command("system", "i386", "-m", "a lot")
    assert result.returncode == 1
    assert result.stderr == "exuvia-system-i386: -m: 'a lot' is no size (a number, perhaps with K, M, G or T)\n"


def test_side_by_side_compares_one_processor(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"anything")
    result = command("system", "x86_64", "-kernel", str(tmp_path / "kernel"), "-smp", "2", "-accel", "software,regions=check")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "exuvia-system-x86_64: -accel software,regions=check: it compares one processor at a time; give -smp 1, not 2\n"


def test_more_memory_than_this_host_could_ever_give(tmp_path: Path) -> None:
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    (tmp_path / "kernel").write_bytes(b"anything")
    result = command("system", "x86_64", "-kernel", str(tmp_path / "kernel"), "-m", f"{host * 9}G")
    assert result.returncode == 1
    assert f"{host * 9} GiB of guest memory are too much for this host" in result.stderr
    assert result.stderr.count("\n") == 1


def test_answers() -> None:
    assert "doctor" in exuvia().stdout
    assert exuvia("version").stdout.startswith("exuvia (Exuvia) version ")
    assert "alpine" in exuvia("guests").stdout
    assert "--exec" in exuvia("run", "--help").stdout


def test_a_closed_pipe_is_no_error() -> None:
    shell = f'"{sys.executable}" -c "{SCRIPT.format(module="system", name="x86_64")}" -help | head -1'
    result = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("usage: exuvia-system-x86_64 [options]\n", "")


def test_commands_start_fast() -> None:
    """Less than 0.3 s of processor time, the best of three."""
    best = 9.0
    for _ in range(3):
        before = os.times()
        exuvia("guests")
        after = os.times()
        best = min(best, after.children_user - before.children_user + after.children_system - before.children_system)
    assert best < 0.3


def test_doctor() -> None:
    result = exuvia("doctor")
    assert result.returncode == 0, result.stderr
    for subject in ("Python ", "LLVM ", "KVM ", "Cache "):
        assert f"\n{subject}" in f"\n{result.stdout}"


def test_doctor_counts_generated_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored for this build, handlers, stencils and regions; the damaged does not count, and nothing is changed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = exuvia("doctor")
    assert result.returncode == 0, result.stderr
    assert "; x86: 0 functions 0.0 MB, 0 stencils 0.0 MB, 0 regions 0.0 MB; at most " in result.stdout
    assert not list(tmp_path.iterdir())

    store = Store(build_identity(architecture()), tmp_path / "exuvia" / "code")
    store.add((bytes(300_000), {"h.x.0.1.0": 0, "h.x.0.2.0": 64}))
    store.beside("stencils").add((bytes(200_000), {"h.x.0.1.0": 0}))
    store.beside("regions").add((bytes(100_000), {"region 1": 0}))
    store.beside("regions").add((bytes(100_001), {"region 2": 0}))
    store.beside("regions").add((bytes(100_002), {"region 3": 0}))
    damaged = next(store.beside("regions").path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    Store("x86-older", store.path.parent).add((bytes(1_000_000), {"h": 0}))
    files = sorted(tmp_path.rglob("*"))
    result = exuvia("doctor")
    assert "; x86: 2 functions 0.3 MB, 1 stencils 0.2 MB, 2 regions 0.3 MB; other builds 1.0 MB; at most " in result.stdout
    assert sorted(tmp_path.rglob("*")) == files


def test_a_cache_below_a_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    assert f"{tmp_path / 'file'} cannot be written: Exuvia runs without a cache" in exuvia("doctor").stdout


MACHINE = """
import sys, threading
from collections import deque
import exuvia.cli.launch as launch
from exuvia.machines.config import ChardevConfig, MachineConfig

class Machine:
    vcpus, architecture = [], "x86"
    def __init__(self, config, chardevs, drives):
        self.event, self.status = threading.Event(), None
        self.serial = chardevs["console"]
    def post(self, work): work()
    def exit(self, status):
        self.status = status
        self.event.set()
    def run(self):
        self.serial.write(b"running\\n")
        while not self.event.wait(0.01): pass
        return self.status

launch.machines = {"pc": Machine}
options = (("mux", "on"), ("signal", "off"))
config = MachineConfig(serial=("console",), chardevs=(ChardevConfig(id="console", kind="stdio", options=options),), monitors=("console",))
sys.exit(launch.launch("prog", config))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_the_machine(number: signal.Signals, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MACHINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"running\n"
        process.send_signal(number)
        assert process.wait(20) == status
        assert process.stderr.read() == f"prog: terminating on signal {number}\r\n".encode()


def test_ctrl_a_x() -> None:
    result = subprocess.run([sys.executable, "-c", MACHINE], input=b"\x01x", capture_output=True, timeout=30)
    assert result.returncode == 0
    assert b"exuvia: terminated\n" in result.stdout


def test_a_closed_terminal_leaves_no_process() -> None:
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", MACHINE], stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_own
    )
    os.close(slave)
    seen = b""
    while b"running" not in seen:
        seen += os.read(master, 1024)
    os.close(master)
    assert process.wait(20) == 129
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("a process is left")


def _own() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
