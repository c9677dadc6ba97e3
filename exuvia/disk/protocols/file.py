"""file: a regular file of the host, with the byte-range locks that QEMU takes, so that the two keep each other out.

The locks are open file description locks on single bytes: 100+n says "I use permission n", 200+n "I do not share permission n" (QEMU, docs/
devel and `qemu-img --help` on -U; permissions in the order consistent read, write, write unchanged, resize).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from exuvia.disk.elsewhere import Elsewhere
from exuvia.disk.node import CHUNK, ZEROS, Extent, ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

READ, WRITE, RESIZE = 0, 1, 3  # permissions, as the number of their lock's byte
NAMES = {READ: "consistent read", WRITE: "write", RESIZE: "resize"}
USES, REFUSES = 100, 200
IOV_MAX = 1024
FARTHEST = (1 << 63) - (1 << 32)  # off_t, with room for a request
FIRST = 4096  # bytes
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NOCOW_FL = 0x80086601, 0x40086602, 0x800000
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_XFLAG_EXTSIZE = 0x801C581F, 0x401C5820, 0x800
_FSXATTR = struct.Struct("IIIII8x")
_NO_SUCH = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV}


class File(Node):
    """A file opened for reading, or for writing too. `share` takes no part in locking (-U). Raises UserError when it cannot be opened."""

    name = "file"
    unsafe = False  # cache mode: flushes are not passed on
    through = False  # cache mode: every write is flushed
    OPTIONS = (
        Option("filename", str, None, "the file's path"),
        Option("locking", ("auto", "on", "off"), "auto", "keep other writers out"),
        Option("discard", ("ignore", "unmap"), "unmap", "whether discarded bytes give up their room"),
        Option("aio", ("threads", "native", "io_uring"), None, "how QEMU does it; taken and not needed here, as the next three"),
        Option("aio-max-batch", int),
        Option("drop-cache", bool),
        Option("x-check-cache-dropped", bool),
    )
    CREATE = (
        Option("nocow", bool, None, "Turn off copy-on-write (valid only on btrfs)"),
        Option("preallocation", ("off", "falloc", "full"), None, "Preallocation mode (allowed values: off, falloc, full)"),
        Option("extent_size_hint", "size", None, "Extent size hint for the image file, 0 to disable"),
    )

    def __init__(
        self,
        filename: str,
        *,
        writable: bool = False,
        share: bool = False,
        locking: str = "auto",
        discard: str = "unmap",
        create: bool = False,
        **_: Any,
    ) -> None:
        self.filename, self.writable, self.gives_room = filename, writable, discard == "unmap"
        flags = (
            (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_CREAT if create else 0)
        )  # a FIFO must not hold us
        try:
            self.fd = os.open(filename, flags, 0o644)
        except (OSError, ValueError) as error:
            raise UserError(f"Could not open '{filename}': {getattr(error, 'strerror', None) or error}") from None
        try:
            status = os.fstat(self.fd)
            self.check_kind(status)
            if locking != "off":
                self.lock({READ, WRITE, RESIZE} if writable else {READ}, set() if share else {WRITE, RESIZE})
        except BaseException:
            os.close(self.fd)
            raise
        self.on_device = stat.S_ISBLK(status.st_mode) or os.major(status.st_dev) != 0  # this host's own: no server has it
        self.punches = self.clones = True

    def check_kind(self, status: os.stat_result) -> None:
        """Refuse what is no regular file."""
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"Could not open '{self.filename}': Is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"Could not open '{self.filename}': A regular file was expected, give host_device for a device")

    def lock(self, uses: set[int], refuses: set[int]) -> None:
        """Announce what is used and what is not shared, then look for somebody who minds."""
        try:
            for byte in (*(USES + each for each in uses), *(REFUSES + each for each in refuses)):
                fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
            for each in sorted(uses):
                self._conflict(REFUSES + each, f'Failed to get "{NAMES[each]}" lock')
            for each in sorted(refuses):
                self._conflict(USES + each, f'Failed to get shared "{NAMES[each]}" lock')
        except OSError as error:
            if error.errno not in _NO_SUCH | {errno.ENOLCK, errno.EACCES, errno.EAGAIN}:
                raise

    def _conflict(self, byte: int, text: str) -> None:
        answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        if _FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
            raise ImageError(f"{text}\nIs another process using the image [{self.filename}]?")

    @property
    def size(self) -> int:  # type: ignore[override]
        """As the host has it now."""
        return os.fstat(self.fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self.fd, length, min(offset, FARTHEST))
        if len(data) == length:
            return data
        return super().read(offset, length)

    def readv(self, offset: int, into: Vector) -> None:
        offset = min(offset, FARTHEST)  # an image may name any place; there is nothing so far out
        left = into
        while left.length:
            count = os.preadv(self.fd, left.parts[:IOV_MAX], offset)
            if count == left.length:
                return
            if not count:
                left.clear()
                return
            offset += count
            left = left.slice(count, left.length - count)

    def fill(self, offset: int, view: memoryview) -> None:
        """`readv` into one piece, with less ado."""
        if os.preadv(self.fd, (view,), min(offset, FARTHEST)) != len(view):
            self.readv(offset, Vector((view,)))

    def writev(self, offset: int, data: Vector) -> None:
        self._reachable(offset + data.length)
        left = data
        if isinstance(data, Elsewhere) and (done := data.move(self, offset)):
            offset += done
            left = data.slice(done, data.length - done)
        try:
            while left.length:
                count = os.pwritev(self.fd, left.parts[:IOV_MAX], offset)
                if count == left.length:
                    break
                offset += count
                left = left.slice(count, left.length - count)
            if self.through:
                os.fdatasync(self.fd)
        except OSError as error:
            error.filename = self.filename
            raise

    def _reachable(self, end: int) -> None:
        """Raises OSError(EFBIG) where no file can be so long."""
        if end > FARTHEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self.filename)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        end = offset + length
        self._reachable(end)
        if not length:
            return
        if end > self.size:
            os.pwrite(self.fd, b"\0", end - 1)  # ftruncate would cut off what another thread writes behind it just now
        if not self._allocate(FALLOC_PUNCH_HOLE if unmap and self.gives_room else FALLOC_ZERO_RANGE, offset, length):
            self._write_zeros(offset, end)

    def discard(self, offset: int, length: int) -> None:
        if self.gives_room:
            self._allocate(FALLOC_PUNCH_HOLE, offset, min(length, self.size - offset))

    def _allocate(self, mode: int, offset: int, length: int) -> bool:
        """fallocate(2) with a mode; False where the file system has no such thing."""
        if not self.punches or length <= 0:
            return length <= 0
        if _libc().fallocate(self.fd, mode | FALLOC_KEEP_SIZE, offset, length) == 0:
            return True
        import ctypes

        number = ctypes.get_errno()
        if number not in _NO_SUCH:
            raise OSError(number, os.strerror(number), self.filename)
        self.punches = mode != FALLOC_PUNCH_HOLE
        return False

    def resize(self, size: int, preallocation: str = "off") -> None:
        """`falloc` reserves room, `full` writes zeros. A failure leaves the old length.

        A file's first block always has room, because that is where programs that bypass the cache try which alignment it wants.
        """
        self._reachable(size)
        old = self.size
        if preallocation not in ("off", "falloc", "full"):
            raise Unsupported(f"Unsupported preallocation mode '{preallocation}'")
        if preallocation != "off" and size < old:
            raise Unsupported("Preallocation can't be used for shrinking files")
        try:
            if preallocation == "falloc" and size > old:
                os.posix_fallocate(self.fd, old, size - old)
            os.ftruncate(self.fd, size)
            if preallocation == "full":
                self._write_zeros(old, size)
            elif not old and size:
                self._write_zeros(0, FIRST if size >= FIRST else min(size, 512))
        except BaseException as error:
            os.ftruncate(self.fd, old)
            if isinstance(error, OSError):
                error.filename = self.filename
            raise

    def _write_zeros(self, offset: int, end: int) -> None:
        while offset < end:
            offset += os.pwrite(self.fd, memoryview(ZEROS)[: min(end - offset, CHUNK)], offset)

    def flush(self) -> None:
        if self.writable and not self.unsafe:
            try:
                os.fdatasync(self.fd)
            except OSError as error:
                error.filename = self.filename
                raise

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Holes that the file system knows are ABSENT."""
        end = offset + length
        while offset < end:
            try:
                data = min(os.lseek(self.fd, offset, os.SEEK_DATA), end)
            except OSError as error:
                if error.errno not in _NO_SUCH | {errno.ENXIO}:
                    raise
                data = end if error.errno == errno.ENXIO else offset
            if data > offset:
                yield Extent(Kind.ABSENT, data - offset, offset, self)
            if data < end:
                try:
                    hole = min(os.lseek(self.fd, data, os.SEEK_HOLE), end)
                except OSError:
                    hole = end
                yield Extent(Kind.DATA, hole - data, data, self)
                data = hole
            offset = data

    def prepare(self, nocow: bool, extent_size: int) -> None:
        """Tell the file system of a new file how it will be used (ioctl_iflags(2), xfs' fsgetxattr); what it does not know is left out."""
        try:
            if nocow:
                flags = struct.unpack("l", fcntl.ioctl(self.fd, FS_IOC_GETFLAGS, bytes(8)))[0]
                fcntl.ioctl(self.fd, FS_IOC_SETFLAGS, struct.pack("l", flags | FS_NOCOW_FL))
            if extent_size:
                words = list(_FSXATTR.unpack(fcntl.ioctl(self.fd, FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))))
                words[0], words[1] = words[0] | FS_XFLAG_EXTSIZE, extent_size
                fcntl.ioctl(self.fd, FS_IOC_FSSETXATTR, _FSXATTR.pack(*words))
        except OSError as error:
            if error.errno not in _NO_SUCH | {errno.ENOTTY}:
                raise

    def allocated(self) -> int:
        """Bytes of the host's disk that it takes."""
        return os.fstat(self.fd).st_blocks * 512

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _libc() -> Any:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return library
