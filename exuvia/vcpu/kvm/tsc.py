"""The host's time-stamp counter: RDTSC, SHL RDX, 32, OR RAX, RDX, RET (SDM vol. 2), in a page of its own."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from functools import cache

_CODE = bytes.fromhex("0f31 48c1e220 4809d0 c3")


@cache
def reader() -> Callable[[], int]:
    """A function that reads it."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    page.write(_CODE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the host allows no code to be made")
    read = ctypes.PYFUNCTYPE(ctypes.c_uint64)(address)

    def counter(page: mmap.mmap = page) -> int:
        value: int = read()
        return value

    return counter
