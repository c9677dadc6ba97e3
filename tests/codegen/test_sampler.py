"""The sampler's signal handler stays where it is as long as it may be entered."""

from __future__ import annotations

import gc
import time
import weakref
from pathlib import Path

from exuvia.codegen.sampler import Sampler
from exuvia.isa.x86.state import layout


def mapped() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("exuvia-code")


def test_a_running_sampler_stays() -> None:
    """Its timer rings though nobody has it any more; stopped, all is given back."""
    before = mapped()
    sampler: Sampler | None = Sampler(layout)
    found = weakref.ref(sampler)
    del sampler
    assert found() is None
    sampler = Sampler(layout)
    found = weakref.ref(sampler)
    sampler.start()
    del sampler
    gc.collect()
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    sampler = found()
    assert sampler is not None
    sampler.stop()
    assert sampler.waiting
    del sampler
    assert mapped() == before and found() is None
