"""Work for every processor: the caller's thread and one more for each other processor take the next piece until there is none."""

from __future__ import annotations

import _thread  # threading takes a short command a tenth of its time
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle() -> bool:
    """Whether a second thread would find a processor: fewer than two tasks for each want one, in the last minute's mean (getloadavg(3)).

    Where more do, copying on two threads takes twice the time and the CPU time of one: they wait for one another.
    """
    try:
        return COUNT > 1 and os.getloadavg()[0] < 2 * COUNT
    except OSError:
        return COUNT > 1


def share(work: Callable[[], None], threads: int = COUNT) -> None:
    """Call `work` in this thread and in `threads - 1` others, and return when all have; raises what one of them raised.

    They share what they take from: an iterator whose `next` is one step of the interpreter's (a range's, a list's).
    """
    failures: list[BaseException] = []

    def beside(done: _thread.LockType) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            done.release()

    others: list[_thread.LockType] = []
    try:
        for _ in range(1, threads):
            done = _thread.allocate_lock()
            done.acquire()
            try:
                _thread.start_new_thread(beside, (done,))
            except RuntimeError:  # no more threads are to be had: those that there are do it
                break
            others.append(done)
        work()
    finally:
        while others:
            try:
                with others[-1]:
                    pass
                others.pop()
            except KeyboardInterrupt as interrupt:  # what they work on may be closed only when they are done
                failures.append(interrupt)
    if failures:
        raise failures[0]
