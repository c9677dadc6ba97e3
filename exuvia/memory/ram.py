"""All of a machine's RAM and ROM: one sparse, shareable memory file (a memfd on Linux), mapped once into this process."""

import ctypes
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable

from exuvia.support.errors import UserError

BEYOND = mmap.PAGESIZE  # bytes mapped behind a memory that are no part of it: a decoder may look past the last instruction's end
PROMISED = 8  # times the host's memory that a guest may be promised: a kernel touches a 64th of its memory before it does anything else


def _file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("exuvia-ram", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, size)
    except (OSError, OverflowError):
        os.close(fd)
        raise
    return fd


class Ram:
    """`size` bytes of zeroed memory, rounded up to whole host pages; raises UserError when the host cannot give that much.

    `address` is where it is mapped in this process, `view` the same bytes for Python, `fd` for whoever maps them again, and `BEYOND`
    bytes more if it runs code there.
    Whoever keeps something derived from the bytes (decoded code, dirty bits) adds a callable to `on_write`; it is told
    (offset, length) of each write that goes through an address space, which native code's own stores do not.
    """

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise UserError(f"a memory of {size} bytes is not possible")
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > PROMISED * host:
            raise UserError(f"{size >> 30} GiB of guest memory are too much for this host, which has {host / (1 << 30):.0f} GiB")
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            self.fd = _file(self.size + BEYOND)
        except (OSError, OverflowError):
            raise UserError(f"the host cannot provide {size >> 20} MiB of guest memory") from None
        try:
            self._map = mmap.mmap(self.fd, self.size + BEYOND)
        except (OSError, OverflowError, ValueError):
            os.close(self.fd)
            raise UserError(f"the host cannot map {size >> 20} MiB of guest memory") from None
        self._close = weakref.finalize(self, os.close, self.fd)
        self.view = memoryview(self._map)[: self.size]
        first = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(first)
        self.on_write: list[Callable[[int, int], None]] = []

    def close(self) -> None:
        """Give the memory back, as is done when nobody has it any more; `address` and `view` are dead after this."""
        self.view.release()
        self._map.close()
        self._close()

    def leave_out_of_cores(self) -> None:
        """Not to be in core dumps of this process, where the host has that (Linux)."""
        if hasattr(mmap, "MADV_DONTDUMP"):
            self._map.madvise(mmap.MADV_DONTDUMP)

    def load(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`, as a loader does; raises ValueError when it does not fit."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError(f"{len(data)} bytes at {offset:#x} do not fit in {self.size:#x} bytes of RAM")
        self.view[offset : offset + len(data)] = data
        for hook in self.on_write:
            hook(offset, len(data))
