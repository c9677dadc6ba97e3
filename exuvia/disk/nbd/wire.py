"""What goes over the wire: the numbers of the NBD protocol (doc/proto.md of NetworkBlockDevice/nbd), and a channel of bytes for them."""

import errno
import os
import socket
import struct
import threading
from collections.abc import Sequence
from enum import IntEnum, IntFlag

from exuvia.disk.vector import Buffer

PORT = 10809
LARGEST = 32 << 20  # bytes of data in one message
LONGEST = 4096  # bytes of a string
IOV_MAX = 1024
INIT, OPTION_MAGIC, REPLY_MAGIC = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
OLDSTYLE = 0x00420281861253
REQUEST_MAGIC, SIMPLE_MAGIC, CHUNK_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
FIXED_NEWSTYLE, NO_ZEROES = 1, 2

GREETING = struct.Struct(">QQH")
OPTION = struct.Struct(">QII")  # magic, option, length
OPTION_REPLY = struct.Struct(">QIII")  # magic, option, type, length
EXPORT = struct.Struct(">QH")  # size, transmission flags
REQUEST = struct.Struct(">IHHQQI")  # magic, flags, command, cookie, offset, length
SIMPLE = struct.Struct(">IIQ")  # magic, error, cookie
CHUNK = struct.Struct(">IHHQI")  # magic, flags, type, cookie, length
EXTENT = struct.Struct(">II")  # length, flags


class Opt(IntEnum):
    """What a client asks for in the handshake."""

    EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT = 1, 2, 3, 5, 6, 7, 8, 9, 10


class Rep(IntEnum):
    """What a server says to it."""

    ACK, SERVER, INFO, META_CONTEXT = 1, 2, 3, 4
    ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_PLATFORM, ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN, ERR_BLOCK_SIZE_REQD, ERR_TOO_BIG = range(
        (1 << 31) + 1, (1 << 31) + 10
    )


class Info(IntEnum):
    """Parts of what is told of an export."""

    EXPORT, NAME, DESCRIPTION, BLOCK_SIZE = range(4)


class Flag(IntFlag):
    """What an export can do."""

    HAS_FLAGS, READ_ONLY, FLUSH, FUA, ROTATIONAL, TRIM, ZEROES, DF, MULTI, RESIZE, CACHE, FAST_ZERO = (1 << bit for bit in range(12))


class Cmd(IntEnum):
    """Requests. RESIZE, of an experimental extension, has the new size as its offset."""

    READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS, RESIZE = range(9)


FUA, NO_HOLE, DONT_FRAGMENT, REQ_ONE, FAST = 1, 2, 4, 8, 16  # flags of requests
DONE = 1  # flag of a chunk
NONE, DATA, HOLE, STATUS, ERROR, ERROR_AT = 0, 1, 2, 5, 32769, 32770  # types of chunks
STATE_HOLE, STATE_ZERO = 1, 2  # of base:allocation

ERRORS = (errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW, errno.ENOTSUP, errno.ESHUTDOWN)


class Broken(OSError):
    """The connection is of no more use: it ended, or the other side broke the protocol; the text says which."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EIO, text)
        self.text = text


class Channel:
    """A connected stream socket. Any threads may send; one at a time receives. `timeout` is seconds of silence, None for ever."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sending = threading.Lock()
        self.late = False

    @property
    def timeout(self) -> float | None:
        """Seconds that a send or a receive waits."""
        return self.sock.gettimeout()

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        try:
            self.sock.settimeout(seconds)
        except OSError as error:
            raise _ended(error) from None

    def limit(self, seconds: float) -> threading.Timer:
        """A timer, running already, that hangs up unless it is cancelled before: for peers that keep one waiting byte by byte."""
        timer = threading.Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        return timer

    def _give_up(self) -> None:
        self.late = True
        self.hang_up()

    def some(self, into: memoryview) -> int:
        """Receive something; 0 at the end."""
        return self.sock.recv_into(into)

    def fill(self, into: memoryview) -> None:
        """Receive as many bytes as there is room. Raises Broken."""
        at, length = 0, len(into)
        try:
            while at < length:
                count = self.some(into[at:])
                if not count:
                    raise Broken("no answer in time" if self.late else "the connection was closed")
                at += count
        except TimeoutError:
            raise Broken("no answer in time") from None
        except Broken:
            raise
        except OSError as error:
            raise _ended(error) from None

    def receive(self, length: int) -> bytes:
        """`length` bytes. Raises Broken."""
        data = bytearray(length)
        self.fill(memoryview(data))
        return bytes(data)

    def skip(self, length: int) -> None:
        """Receive bytes and forget them."""
        while length:
            count = min(length, 1 << 16)
            self.receive(count)
            length -= count

    def send(self, *parts: Buffer) -> None:
        """All of the parts, one after the other. Raises Broken."""
        try:
            with self.sending:
                self._send(parts)
        except TimeoutError:
            raise Broken("the other side takes nothing") from None
        except OSError as error:
            raise _ended(error) from None

    def _send(self, parts: Sequence[Buffer]) -> None:
        left = [memoryview(part) for part in parts]
        while left:
            count = self.sock.sendmsg(left[:IOV_MAX])
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if count:
                left[0] = left[0][count:]

    def waiting(self) -> bool:
        """Whether there is something to receive already."""
        import select

        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def hang_up(self) -> None:
        """End the connection from any thread: whoever sends or receives gets Broken."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """End the connection and let go of the socket, when nobody receives any more."""
        self.hang_up()
        with self.sending:
            self.sock.close()


def _ended(error: OSError) -> Broken:
    """What a socket's error means."""
    if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.ENOTCONN):
        return Broken("the connection was closed")
    return Broken(error.strerror or str(error))


def text(data: bytes) -> str:
    """A string of the protocol, for messages: one line without control characters."""
    return "".join(char if char.isprintable() else "?" for char in data[:LONGEST].decode("utf-8", "replace"))


def number(error: BaseException) -> int:
    """The protocol's number for an error of a node."""
    found = getattr(error, "errno", None)
    if found == errno.EROFS:
        return errno.EPERM
    if found in (errno.EFBIG, errno.EDQUOT):
        return errno.ENOSPC
    return found if found in ERRORS else errno.EIO


def failure(code: int) -> OSError:
    """The error that a server's number stands for."""
    known = code if code in ERRORS else errno.EINVAL
    return OSError(known, os.strerror(known))
