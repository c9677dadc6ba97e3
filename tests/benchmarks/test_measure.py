"""What a run costs: processes that left the session are counted, and a terminal that is silent is a failure."""

import sys

import pytest

from benchmarks.measure import Failure, Terminal

SPIN = "import time\nwhile time.process_time() < {}: pass\n"


def test_a_child_in_a_session_of_its_own_costs_its_parent() -> None:
    waiting = SPIN.format(0.5) + "print('spun', flush=True)\nimport time\ntime.sleep(60)"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {waiting!r}], start_new_session=True)"
    with Terminal([sys.executable, "-c", parent]) as terminal:
        terminal.expect(b"spun", 60)
        cost = terminal.cost()
    assert cost.cpu >= 0.45 and cost.wall >= 0.45 and cost.resident > 4 << 20


def test_a_child_that_ended_still_counts() -> None:
    spin = f"subprocess.run([sys.executable, '-c', {SPIN.format(0.5)!r}], start_new_session=True)"
    parent = f"import subprocess, sys\n{spin}\nprint('over', flush=True)\ninput()"
    with Terminal([sys.executable, "-c", parent]) as terminal:
        terminal.expect(b"over", 60)
        assert terminal.cost().cpu >= 0.45


def test_what_is_typed_is_read_and_what_comes_before_a_mark_is_returned() -> None:
    with Terminal(
        [sys.executable, "-c", "print('name?', flush=True); print('it is', input()[::-1], '.', flush=True); input()"]
    ) as terminal:
        terminal.expect(b"name?", 60)
        terminal.say(b"abc\n")
        assert terminal.expect(b" .", 60).endswith(b"it is cba")


def test_silence_and_an_end_are_failures() -> None:
    with Terminal([sys.executable, "-c", "print('last words', flush=True); input()"]) as terminal:
        with pytest.raises(Failure, match="last words"):
            terminal.expect(b"never", 2)
        terminal.say(b"\n")
        with pytest.raises(Failure, match="ended without"):
            terminal.expect(b"never", 60)
