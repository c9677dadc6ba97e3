"""RAM and what lies behind it."""

from __future__ import annotations

import mmap
import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from exuvia.isa.x86.decode import READS
from exuvia.memory.ram import BEYOND, Ram


def test_its_bytes_end_where_it_does() -> None:
    ram = Ram(mmap.PAGESIZE + 1)
    assert len(ram.view) == ram.size == 2 * mmap.PAGESIZE
    with pytest.raises(ValueError, match="do not fit"):
        ram.load(ram.size - 1, b"12")
    ram.close()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_decoder_may_look_beyond_its_end() -> None:
    """An instruction in the last byte is one: whatever the host maps or unmaps next to the RAM, that can be read."""
    above = mmap.mmap(-1, 64 * mmap.PAGESIZE)  # what Linux maps next lies below
    ram = Ram(mmap.PAGESIZE)
    above.close()
    places = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if "exuvia-ram" in line]
    (end,) = (int(end, 16) for start, end in places if int(start, 16) <= ram.address < int(end, 16))
    assert end - ram.address - ram.size == BEYOND >= READS
    ram.close()


def test_it_is_given_back() -> None:
    """By `close`, or when nobody has it any more: its descriptor too, which keeps the memory."""
    for close in (True, False):
        ram = Ram(mmap.PAGESIZE)
        fd = ram.fd
        os.fstat(fd)
        if close:
            ram.close()
        del ram
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_it_is_left_out_of_core_dumps() -> None:
    ram = Ram(mmap.PAGESIZE)

    def flags() -> str:
        maps = Path("/proc/self/smaps").read_text().split("exuvia-ram")
        return next(part.partition("VmFlags:")[2].splitlines()[0] for before, part in pairwise(maps) if f"{ram.address:x}-" in before)

    assert " dd" not in flags()
    ram.leave_out_of_cores()
    assert " dd" in flags(), "do not dump"
    ram.close()
