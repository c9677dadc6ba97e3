"""However a booting machine ends, its terminal is given back, its workers end with it, and the store can be read."""

from __future__ import annotations

import os
import shutil
import signal
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exuvia.codegen.service import PATIENCE
from exuvia.support.errors import UserError
from tests.cli.booting import AT_SHELL, Boot, cache_without_regions, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return cache_without_regions(tmp_path_factory.mktemp("cache"))
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def booting(cache_home: Path) -> Iterator[Boot]:
    """A machine whose worker compiles just now: the regions of the one before are gone."""
    for folder in (cache_home / "exuvia" / "code").glob("*.regions"):
        shutil.rmtree(folder)
    with Boot(cache_home) as boot:
        boot.busy_worker()
        yield boot


def ctrl_c(boot: Boot) -> None:
    os.write(boot.master, b"\x03")


def send(number: signal.Signals) -> Callable[[Boot], None]:
    return lambda boot: boot.process.send_signal(number)


def twice(boot: Boot) -> None:
    boot.process.send_signal(signal.SIGTERM)
    boot.process.send_signal(signal.SIGINT)


ENDS = {
    "Ctrl-C": (ctrl_c, {130}),
    "SIGTERM": (send(signal.SIGTERM), {143}),
    "SIGHUP": (send(signal.SIGHUP), {129}),
    "SIGKILL": (send(signal.SIGKILL), {-9}),
    "twice": (twice, {130, 143}),
}
SHORT = [("Ctrl-C", "busy"), ("SIGKILL", "stopped")]
ALL = [(how, worker) for worker in ("busy", "stopped") for how in ENDS]


@pytest.mark.parametrize(("how", "worker"), [pytest.param(*case, marks=() if case in SHORT else pytest.mark.soak) for case in ALL])
def test_nothing_is_left(booting: Boot, how: str, worker: str) -> None:
    end, statuses = ENDS[how]
    assert termios.tcgetattr(booting.slave) != booting.before
    if worker == "stopped":
        for pid in booting.workers():
            os.kill(pid, signal.SIGSTOP)
    end(booting)
    assert booting.ended() in statuses, booting.text()
    assert booting.nothing_left(), booting.left()
    assert booting.restored()
    assert booting.store_is_sound()
    assert "Traceback" not in booting.text()


def test_a_closed_terminal(booting: Boot) -> None:
    booting.hang_up()
    assert booting.process.wait(20) == 129
    assert booting.nothing_left(), booting.left()
    assert booting.store_is_sound()


@pytest.mark.soak
def test_a_killed_worker_is_replaced(booting: Boot) -> None:
    for pid in (old := booting.workers()):
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: set(booting.workers()) - set(old), 60), "no new worker"
    booting.expect(AT_SHELL)
    booting.process.terminate()
    assert booting.ended() == 143
    assert booting.nothing_left(), booting.left()


@pytest.mark.soak
def test_a_stopped_worker_is_given_up(booting: Boot) -> None:
    """The boot does not wait for it."""
    for pid in (old := booting.workers()):
        os.kill(pid, signal.SIGSTOP)
    booting.expect(AT_SHELL)
    assert until(lambda: set(booting.workers()) - set(old), PATIENCE + 30), "no new worker"
    assert not set(booting.workers()) & set(old)
    booting.process.terminate()
    assert booting.ended() == 143
    assert booting.nothing_left(), booting.left()
