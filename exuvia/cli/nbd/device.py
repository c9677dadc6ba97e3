"""The kernel's client: an export as /dev/nbdN (linux/nbd.h: the device's ioctls). The kernel talks to a server in this process."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading

from exuvia.disk.nbd.export import Export
from exuvia.disk.nbd.service import Service
from exuvia.disk.nbd.wire import Broken, Channel
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.cli.nbd.main import Arguments

SET_SOCK, SET_BLKSIZE, DO_IT, CLEAR_SOCK, SET_SIZE_BLOCKS, DISCONNECT, SET_FLAGS = 0xAB00, 0xAB01, 0xAB03, 0xAB04, 0xAB07, 0xAB08, 0xAB0A
BLOCK = 512
KNOWN = 0x12D  # the flags that the kernel knows: has flags, read-only, flush, FUA, trim, many connections


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR)
    except OSError as error:
        raise UserError(f"Cannot open {path}: {error.strerror} (is the kernel's nbd module there? modprobe nbd)") from None


def disconnect(path: str) -> int:
    """Let the device go. Raises UserError."""
    device = _open(path)
    try:
        fcntl.ioctl(device, CLEAR_SOCK)
        fcntl.ioctl(device, DISCONNECT)
        fcntl.ioctl(device, CLEAR_SOCK)
    except OSError as error:
        raise UserError(f"Cannot disconnect {path}: {error.strerror}") from None
    finally:
        os.close(device)
    print(f"{path} disconnected")
    return 0


def connect(arguments: Arguments, export: Export) -> int:
    """Be the device until somebody disconnects it. Raises UserError."""
    from exuvia.cli.nbd.serve import detach, fork, tell, write_pid

    path = arguments.get("connect")
    device = _open(path)
    ours, kernels = socket.socketpair()
    try:
        fcntl.ioctl(device, SET_SOCK, kernels.fileno())
        fcntl.ioctl(device, SET_BLKSIZE, BLOCK)
        fcntl.ioctl(device, SET_SIZE_BLOCKS, export.size // BLOCK)
        fcntl.ioctl(device, SET_FLAGS, export.flags & KNOWN)
    except OSError as error:
        raise UserError(f"Cannot connect {path}: {error.strerror}") from None
    if "fork" in arguments:
        fork()
    if "pid-file" in arguments:
        write_pid(arguments.get("pid-file"))
    if "verbose" in arguments:
        tell(f"NBD device {path} is now connected to {arguments.rest[0]}")
    service = threading.Thread(target=_serve, args=(Channel(ours), export), name="nbd device", daemon=True)
    service.start()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: fcntl.ioctl(device, DISCONNECT))
    if "fork" in arguments:
        detach()
    try:
        fcntl.ioctl(device, DO_IT)
    except OSError:
        pass  # that is how it ends
    fcntl.ioctl(device, CLEAR_SOCK)
    kernels.close()
    service.join(10)
    os.close(device)
    export.node.flush()
    return 0


def _serve(channel: Channel, export: Export) -> None:
    try:
        Service(channel, export, False, []).run()
    except Broken:
        pass
    finally:
        channel.close()
