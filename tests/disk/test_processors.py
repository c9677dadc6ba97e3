"""Work that is shared: every piece once, all of it done at the end, errors of any thread told."""

import os
import signal
import threading
import time

import pytest

from exuvia.disk.processors import share


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_every_piece_is_taken_once(threads: int) -> None:
    starts, taken = iter(range(1000)), []

    def work() -> None:
        for at in starts:
            taken.append(at)
            time.sleep(0)

    share(work, threads)
    assert sorted(taken) == list(range(1000))


def test_an_error_of_another_thread_is_told_when_all_are_done() -> None:
    mine, both, ended = threading.get_ident(), threading.Barrier(2, timeout=30), []

    def work() -> None:
        both.wait()
        if threading.get_ident() != mine:
            raise OSError("of the other")
        ended.append(True)

    with pytest.raises(OSError, match="of the other"):
        share(work, 2)
    assert ended


def test_the_others_are_waited_for_when_this_one_fails() -> None:
    mine, both, ended = threading.get_ident(), threading.Barrier(2, timeout=30), []

    def work() -> None:
        both.wait()
        if threading.get_ident() == mine:
            raise OSError("mine")
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(OSError, match="mine"):
        share(work, 2)
    assert ended


def test_an_interrupt_leaves_nobody_at_work() -> None:
    """Whoever is interrupted closes the file that the others still write to."""
    mine, ended = threading.get_ident(), []

    def work() -> None:
        if threading.get_ident() != mine:
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        share(work, 2)
    assert ended
