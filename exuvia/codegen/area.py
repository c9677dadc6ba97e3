"""Memory that native code sees beside the guest's, and in which it stands."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

from exuvia.codegen.store import ALIGNMENT
from exuvia.support.errors import UserError


class Area:
    """Zeroed memory that native code sees; only touched pages cost anything."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._first = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._first)
        self.words = memoryview(self.map).cast("Q")  # each is read and written whole, which struct does not do

    def clear(self) -> None:
        """All zeros again, the memory given back."""
        self.map.madvise(mmap.MADV_DONTNEED)


class Code:
    """Executable memory: one memfd, mapped writable here and executable there, and given back with the object.

    So whoever may enter it has to hold it. At the end of the process it stays: threads may be in it.
    """

    def __init__(self, size: int) -> None:
        fd = os.memfd_create("exuvia-code", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        self.map = mmap.mmap(fd, size)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED, fd, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "no executable memory")
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        weakref.finalize(self, libc.munmap, address, size).atexit = False
        self.address: int = address
        self._first = ctypes.c_char.from_buffer(self.map)
        self.writable = ctypes.addressof(self._first)
        self.used, self.size = 0, size
        os.close(fd)

    def place(self, code: bytes) -> int:
        """Put code; its address. Raises UserError where there is no room: no guest has so many instruction forms."""
        at = -(-self.used // ALIGNMENT) * ALIGNMENT
        if at + len(code) > self.size:
            raise UserError(f"the {self.size >> 20} MiB for generated code are full")
        self.map[at : at + len(code)] = code
        self.used = at + len(code)
        return self.address + at
