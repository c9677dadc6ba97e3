"""Compile workers as processes: what they make, and what becomes of them and of the machine when one of either ends."""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.codegen import service as module
from exuvia.codegen.layout import PLAIN
from exuvia.codegen.making import Made, Making, Wanted
from exuvia.codegen.service import Answer, Request, Service
from exuvia.codegen.stencil import Forms, Stencils
from exuvia.codegen.store import Store
from exuvia.codegen.worker import LENGTH, receive, send
from tests.codegen.native import NativeMachine
from tests.oracle.case import Case

LOOP = bytes.fromhex("48 01 c8 48 ff c9 75 f8")  # add rax, rcx; dec rcx; jnz


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMachine]:
    machine = NativeMachine(Store("service", tmp_path_factory.mktemp("store")))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def wanted(native: NativeMachine) -> Wanted:
    """A loop."""
    case = Case(LOOP, gprs=[0, 3, *[0] * 14])
    assert native.run(case).gprs[0] == 6
    native.put(case, None)
    found = native.engine.hot.grow(native.engine.block(native.at))
    assert found is not None
    return found


class Rig:
    """A service, and what it said was done."""

    def __init__(self, native: NativeMachine) -> None:
        self.done: queue.Queue[Answer | None] = queue.Queue()
        features = native.model.features
        self.service = Service(native.architecture.module, features, self.put, workers=1)
        self.how = Making()

    def put(self, wanted: Request, made: Answer | None, how: Making) -> None:
        """What the service calls."""
        self.how = how
        self.done.put(made)

    def pid(self) -> int:
        """The worker, once there is one."""
        end = time.monotonic() + 20
        while not self.service.processes:
            assert time.monotonic() < end
            time.sleep(0.001)
        return next(iter(self.service.processes)).pid


@pytest.fixture
def rig(native: NativeMachine) -> Iterator[Rig]:
    made = Rig(native)
    yield made
    made.service.close()
    assert not made.service.processes
    assert not any(thread.is_alive() for thread in made.service.threads)


def test_a_worker_makes_what_we_would_make(rig: Rig, wanted: Wanted, native: NativeMachine) -> None:
    rig.service.submit(wanted)
    assert rig.done.get(timeout=60) == wanted.make(native.engine.form, native.architecture)
    assert rig.how.seconds > 0 and rig.how.why == ""


def test_a_worker_makes_the_same_stencils(rig: Rig, wanted: Wanted, native: NativeMachine) -> None:
    """They come before regions that wait."""
    slots = list(native.architecture.everyday(wanted.mode, native.engine.tables[wanted.mode]))[:3]
    forms = Forms(wanted.mode, tuple((slot, PLAIN) for slot in slots))
    for request in (wanted, wanted, forms):
        rig.service.submit(request)
    answers = [rig.done.get(timeout=60) for _ in range(3)]
    assert forms.make(native.engine.form, native.architecture) in answers[:2]


def test_a_dead_worker_costs_its_region(rig: Rig, wanted: Wanted) -> None:
    rig.service.submit(wanted)
    os.kill(rig.pid(), signal.SIGKILL)
    assert rig.done.get(timeout=60) is None
    assert rig.how.why.startswith("its compile worker ended: ")
    rig.service.submit(wanted)
    assert rig.done.get(timeout=60) is not None


def test_after_a_few_deaths_there_are_no_more_workers(rig: Rig, wanted: Wanted, tmp_path: Path) -> None:
    rig.service.arguments = [sys.executable, "-c", f"open({str(tmp_path / 'starts')!r}, 'a').write('x')"]
    for _ in range(module.DEATHS + 3):
        rig.service.submit(wanted)
        assert rig.done.get(timeout=60) is None
    assert len((tmp_path / "starts").read_text()) <= module.DEATHS


def test_a_hung_worker_is_killed(rig: Rig, wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    rig.service.submit(wanted)
    os.kill(pid := rig.pid(), signal.SIGSTOP)
    assert rig.done.get(timeout=60) is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_end_does_not_wait_for_a_stopped_worker(rig: Rig, wanted: Wanted) -> None:
    rig.service.submit(wanted)
    os.kill(rig.pid(), signal.SIGSTOP)
    start = time.monotonic()
    rig.service.close()
    assert time.monotonic() - start < 3


def test_modules_in_the_users_folder_are_not_taken(rig: Rig, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    rig.service.submit(wanted)
    assert rig.done.get(timeout=60) is not None


def test_an_answer_that_breaks_off() -> None:
    stream = io.BytesIO()
    send(stream, list(range(1000)))
    whole = stream.getvalue()
    assert receive(io.BytesIO(whole)) == list(range(1000))
    for length in (0, LENGTH.size - 1, LENGTH.size, LENGTH.size + 100, len(whole) - 1):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:length]))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_killed_machine_takes_its_worker_along(wanted: Wanted, native: NativeMachine, stopped: bool) -> None:
    program = (
        "import sys, time; from exuvia.codegen.service import Service\n"
        f"s = Service({native.architecture.module!r}, frozenset({sorted(native.model.features)!r}), lambda *_: print(1, flush=True))\n"
        "from exuvia.codegen.hot import Found, Wanted\n"
        f"s.submit({wanted!r})\n"
        "while not s.processes: time.sleep(0.01)\n"
        "print(next(iter(s.processes)).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as machine:
        assert machine.stdout is not None
        pid = int(machine.stdout.readline())
        assert machine.stdout.readline() == "1\n"  # it is at work
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        machine.kill()
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end, "the worker is still there"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "answer", ["b'exuvia: hello, this is no region'", "LENGTH.pack(5) + b'hello'", "LENGTH.pack(40) + b'cut'", "pickled(7)"]
)
def test_a_worker_that_talks_nonsense(rig: Rig, wanted: Wanted, answer: str) -> None:
    right = rig.service.arguments
    rig.service.arguments = [
        sys.executable,
        "-c",
        "import pickle, struct, sys; from exuvia.codegen.worker import LENGTH\n"
        "pickled = lambda x: LENGTH.pack(len(pickle.dumps(x))) + pickle.dumps(x)\n"
        f"sys.stdout.buffer.write({answer}); sys.stdout.flush(); sys.stdin.buffer.read(1)",
    ]
    rig.service.submit(wanted)
    assert rig.done.get(timeout=60) is None and rig.service.deaths == 1
    rig.service.arguments = right
    rig.service.submit(wanted)
    assert rig.done.get(timeout=60) is not None


def test_what_cannot_be_compiled_costs_no_worker(rig: Rig, wanted: Wanted, capfd: pytest.CaptureFixture[str]) -> None:
    rig.service.submit(wanted._replace(blocks=(wanted.blocks[0]._replace(records=b"\xff" * 64),)))
    assert rig.done.get(timeout=60) is None and rig.service.deaths == 0
    assert "Error" in rig.how.why and "worker" not in rig.how.why
    assert capfd.readouterr().err.count("a region was not compiled") == 1
    rig.service.submit(wanted)
    assert rig.done.get(timeout=60) is not None


def test_the_hottest_is_next(native: NativeMachine, wanted: Wanted) -> None:
    """While one is being compiled others wait: those that were seen most often by then come first."""
    heats = dict.fromkeys(range(5), 0)
    order: queue.Queue[int] = queue.Queue()
    service = Service(
        native.architecture.module, native.model.features, lambda w, *_: order.put(w.heads[0]), lambda w: heats[w.heads[0]], workers=1
    )
    for seed in heats:
        service.submit(wanted._replace(heads=(seed,)))
    heats |= {1: 3, 2: 9, 3: -1, 4: 5}
    try:
        found = [order.get(timeout=60) for _ in heats]
    finally:
        service.close()
    assert found in ([0, 2, 4, 1, 3], [2, 4, 1, 0, 3])  # the first was taken before the others were there, or not


def test_no_worker_is_started_for_little(native: NativeMachine, wanted: Wanted) -> None:
    """What waits was seen 10 times, then 20 times; a start is worth 20."""
    seen = 10
    done: queue.Queue[Answer | None] = queue.Queue()
    service = Service(
        native.architecture.module, native.model.features, lambda w, made, how: done.put(made), lambda w: seen, workers=1, price=20
    )
    try:
        service.submit(wanted)
        assert not service.threads and not service.busy()
        seen = 20
        service.hire()
        assert service.threads and done.get(timeout=60) is not None
    finally:
        service.close()


def test_stencils_are_worth_a_worker(native: NativeMachine, wanted: Wanted) -> None:
    """A region that waits with them is made then too."""
    done: queue.Queue[Answer | None] = queue.Queue()
    service = Service(native.architecture.module, native.model.features, lambda w, made, how: done.put(made), workers=1, price=20)
    try:
        service.submit(wanted)
        service.submit(Forms(wanted.mode, ((0, PLAIN),)))
        assert [type(done.get(timeout=60)) for _ in range(2)] == [Stencils, Made]
    finally:
        service.close()


def test_no_worker_of_another_version(rig: Rig, wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package was upgraded while the machine ran."""
    monkeypatch.setattr(module, "changed_since_start", lambda _: True)
    rig.service.submit(wanted)
    assert rig.done.get(timeout=60) is None
    assert "have changed" in rig.how.why and not rig.service.processes
