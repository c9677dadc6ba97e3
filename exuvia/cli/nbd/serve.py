"""Serving: open the image, listen, go to the background where that is wanted, serve until the end."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack

from exuvia.cli.img.opening import open_named, show_snapshot
from exuvia.cli.overlay import overlay
from exuvia.disk.format import Format
from exuvia.disk.nbd.address import Address
from exuvia.disk.nbd.export import Export
from exuvia.disk.nbd.server import Server, listen
from exuvia.disk.nbd.wire import PORT
from exuvia.disk.options import size
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from exuvia.cli.nbd.main import Arguments


def serve(arguments: Arguments) -> int:
    """All of it."""
    shared = arguments.number("shared", 1)
    tls, permits = credentials(arguments)
    with ExitStack() as stack:
        image = stack.enter_context(open_disk(arguments))
        export = Export(
            image,
            arguments.get("export-name"),
            description=arguments.get("description"),
            offset=size(arguments.get("offset", "0"), what="offset"),
            writable="read-only" not in arguments and "load-snapshot" not in arguments,
            multi=shared != 1,
            depth="allocation-depth" in arguments,
            bitmaps=arguments.values("bitmap"),
            detect_zeroes=arguments.get("detect-zeroes", "off"),
        )
        if "connect" in arguments:
            from exuvia.cli.nbd.device import connect

            return connect(arguments, export)
        address = Address(path=arguments.get("socket"))
        if "socket" not in arguments:
            address = Address(arguments.get("bind", "0.0.0.0"), arguments.get("port", str(PORT)))
        sock = listen(address)
        if address.path:
            stack.callback(_remove, address.path)
        if "fork" in arguments:
            fork()
        if "pid-file" in arguments:
            write_pid(arguments.get("pid-file"))
            stack.callback(_remove, arguments.get("pid-file"))
        server = Server(
            sock,
            {export.name: export},
            shared=shared,
            persistent="persistent" in arguments,
            tls=tls,
            permits=permits,
            watch=tell if "verbose" in arguments else lambda line: None,
        )
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.close())
        if "verbose" in arguments:
            tell(f"NBD device {arguments.rest[0]} is ready at {address}")
        if "fork" in arguments:
            detach()
        server.run()
        image.flush()
    return 0


def open_disk(arguments: Arguments) -> Format:
    """The image as the options have it. Raises UserError."""
    writable = not {"read-only", "load-snapshot", "snapshot"} & arguments.last.keys()
    cache = "none" if "nocache" in arguments else arguments.last.get("cache")
    image = open_named(arguments.rest[0], arguments.last.get("format"), described="image-opts" in arguments, writable=writable, cache=cache)
    try:
        if "load-snapshot" in arguments:
            show_snapshot(image, arguments.get("load-snapshot"))
        if "snapshot" in arguments:
            image = overlay(image)
    except BaseException:
        image.close()
        raise
    if arguments.get("discard", "ignore") in ("ignore", "off"):
        image.discard = lambda offset, length: None  # type: ignore[method-assign]
    return image


def credentials(arguments: Arguments) -> tuple[Any, Any]:
    """The TLS context, and who may come in. Raises UserError."""
    if "tls-creds" not in arguments:
        return None, lambda peer: True
    from exuvia.disk import objects
    from exuvia.disk.nbd.tls import context

    made = context(arguments.get("tls-creds"), server=True)
    if "tls-authz" not in arguments:
        return made, lambda peer: True
    wanted = objects.properties(arguments.get("tls-authz"), "authz-simple").get("identity", "")
    return made, lambda peer: peer == wanted


def tell(line: str) -> None:
    """A line for -v."""
    print(f"exuvia-nbd: {line}", file=sys.stderr, flush=True)


def fork() -> None:
    """Go on as a child; the parent ends when the child is ready, with an error when the child ends before that."""
    global _ready
    reading, writing = os.pipe()
    sys.stdout.flush()
    if not os.fork():
        os.close(reading)
        os.setsid()
        _ready = writing
        return
    os.close(writing)
    os._exit(0 if os.read(reading, 1) == b"+" else 1)  # the child has said why, and has all that is to be cleaned up


_ready = -1  # in the child of --fork: where the parent waits


def detach() -> None:
    """Tell the parent, and let go of its terminal."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.write(_ready, b"+")
    os.close(_ready)


def write_pid(path: str) -> None:
    """The process id on one line. Raises UserError."""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise UserError(f"cannot write the process id to {path}: {error.strerror}") from None


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
