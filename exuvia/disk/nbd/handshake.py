"""The client's side of the handshake: fixed newstyle, with TLS, structured replies and metadata contexts where the server has them."""

from __future__ import annotations

from exuvia.disk.nbd import wire
from exuvia.disk.nbd.address import PATIENCE, Address
from exuvia.disk.nbd.wire import Broken, Channel, Info, Opt, Rep
from exuvia.disk.node import ImageError
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

MOST_EXPORTS = 10_000  # that a list may have


class Export(Record):
    """What a server tells of an export. Block sizes in bytes; `contexts` are names with the ids of their answers."""

    name: str
    size: int = 0
    flags: int = 0
    description: str = ""
    least: int = 1
    preferred: int = 4096
    most: int = wire.LARGEST
    told_sizes: bool = False
    structured: bool = False
    contexts: dict[str, int] = {}


class Haggler:
    """A connection in the handshake. `oldstyle` servers tell their only export at once. Raises ImageError for what a server refuses."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None, host: str | None = None, timeout: float = PATIENCE) -> None:
        self.address = address
        self.channel = Channel(address.connect(timeout))
        self._limit = self.channel.limit(timeout)
        self.structured = False
        self.oldstyle: Export | None = None
        try:
            self._greet()
            if tls is not None:
                if self.oldstyle or not self.fixed:
                    raise ImageError(f"{address}: the server is too old for TLS")
                self._ask(Opt.STARTTLS)
                from exuvia.disk.nbd.tls import TlsChannel

                self.channel = TlsChannel(self.channel, tls, server=False, host=host)
        except Broken as error:
            self.close()
            raise ImageError(f"{address}: {error.text} during the handshake") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave a handshake that came to nothing."""
        self._limit.cancel()
        self.channel.close()

    def _greet(self) -> None:
        magic, kind = wire.GREETING.unpack(self.channel.receive(16) + b"\0\0")[:2]
        if magic != wire.INIT:
            raise ImageError(f"{self.address}: Bad initial magic received, this is no NBD server")
        if kind == wire.OLDSTYLE:
            size = int.from_bytes(self.channel.receive(8), "big")
            flags = int.from_bytes(self.channel.receive(4), "big")
            self.channel.skip(124)
            self.oldstyle = Export("", _size(self.address, size), flags & 0xFFFF)
            self.fixed = False
            return
        if kind != wire.OPTION_MAGIC:
            raise ImageError(f"{self.address}: Bad server magic received")
        flags = int.from_bytes(self.channel.receive(2), "big")
        self.fixed, self.bare = bool(flags & wire.FIXED_NEWSTYLE), bool(flags & wire.NO_ZEROES)
        self.channel.send((flags & (wire.FIXED_NEWSTYLE | wire.NO_ZEROES)).to_bytes(4, "big"))

    def send(self, option: Opt, data: bytes = b"") -> None:
        """Ask for something."""
        self.channel.send(wire.OPTION.pack(wire.OPTION_MAGIC, option, len(data)), data)

    def answer(self, option: Opt) -> tuple[int, bytes]:
        """The type and data of the next reply to `option`."""
        magic, about, kind, length = wire.OPTION_REPLY.unpack(self.channel.receive(wire.OPTION_REPLY.size))
        if magic != wire.REPLY_MAGIC or about != option:
            raise Broken("a reply that fits no question came")
        if length > 4 * wire.LONGEST:
            raise Broken(f"a reply of {length} bytes came")
        return kind, self.channel.receive(length)

    def _ask(self, option: Opt, data: bytes = b"") -> bool:
        """Ask for what is granted or not; for TLS, a refusal is an ImageError."""
        self.send(option, data)
        kind, text = self.answer(option)
        if kind == Rep.ACK:
            return True
        if option is Opt.STARTTLS or kind == Rep.ERR_TLS_REQD:
            raise self.refused(option, kind, text)
        return False

    def refused(self, option: Opt, kind: int, text: bytes) -> ImageError:
        """What a server's refusal means."""
        words = {
            Rep.ERR_UNSUP: "the server does not know it",
            Rep.ERR_POLICY: "the server's policy is against it",
            Rep.ERR_INVALID: "the server calls it invalid",
            Rep.ERR_PLATFORM: "the server lacks support for it",
            Rep.ERR_TLS_REQD: "the server demands TLS, give tls-creds",
            Rep.ERR_UNKNOWN: "Requested export not available",
            Rep.ERR_SHUTDOWN: "the server is shutting down",
            Rep.ERR_BLOCK_SIZE_REQD: "the server demands that block sizes are negotiated",
            Rep.ERR_TOO_BIG: "the server calls it too big",
        }
        said = f" (server reported: {wire.text(text)})" if text else ""
        return ImageError(f"{self.address}: option {option.name} refused: {words.get(kind, f'reply {kind:#x}')}{said}")  # type: ignore[call-overload]

    def go(self, name: str, contexts: tuple[str, ...] = ()) -> Export:
        """Enter transmission with the export `name`."""
        try:
            if self.oldstyle is not None:
                if name:
                    raise ImageError(f"{self.address}: the server is too old to have exports with names")
                return self.oldstyle
            if not self.fixed:
                return self._export_name(name)
            self.structured = self._ask(Opt.STRUCTURED_REPLY)
            found = self._meta(Opt.SET_META_CONTEXT, name, contexts) if contexts and self.structured else {}
            export = self.about(name, Opt.GO)
            if export is None:
                return self._export_name(name)
            export.structured, export.contexts = self.structured, found
            return export
        except Broken as error:
            raise ImageError(f"{self.address}: {error.text} during the handshake") from None
        finally:
            self._limit.cancel()

    def about(self, name: str, option: Opt = Opt.INFO) -> Export | None:
        """What the server tells of an export; None when it knows no such question."""
        encoded = name.encode()
        wanted = (Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE)
        self.send(
            option,
            len(encoded).to_bytes(4, "big")
            + encoded
            + len(wanted).to_bytes(2, "big")
            + b"".join(each.to_bytes(2, "big") for each in wanted),
        )
        export, sized = Export(name), False
        for _ in range(64):
            kind, data = self.answer(option)
            if kind == Rep.ERR_UNSUP:
                return None
            if kind == Rep.ACK:
                if not sized:
                    raise Broken("the export's size was not told")
                return export
            if kind != Rep.INFO:
                raise self.refused(option, kind, data)
            about, rest = int.from_bytes(data[:2], "big"), data[2:]
            if about == Info.EXPORT and len(rest) == wire.EXPORT.size:
                size, flags = wire.EXPORT.unpack(rest)
                export.size, export.flags, sized = _size(self.address, size), flags, True
            elif about == Info.NAME:
                export.name = wire.text(rest)
            elif about == Info.DESCRIPTION:
                export.description = wire.text(rest)
            elif about == Info.BLOCK_SIZE and len(rest) == 12:
                sizes = [int.from_bytes(rest[at : at + 4], "big") for at in (0, 4, 8)]
                export.least, export.preferred, export.most = sizes
                export.told_sizes = True
                if export.least & (export.least - 1) or not 1 <= export.least <= 65536 or export.most < export.least:
                    raise Broken(f"block sizes that make no sense came: {sizes}")
        raise Broken("information without an end came")

    def _export_name(self, name: str) -> Export:
        """The way of servers that do not know GO: they hang up when they have no such export."""
        self.send(Opt.EXPORT_NAME, name.encode())
        try:
            size, flags = wire.EXPORT.unpack(self.channel.receive(wire.EXPORT.size))
            if not self.bare:
                self.channel.skip(124)
        except Broken:
            raise ImageError(f"{self.address}: Requested export not available: '{name}'") from None
        return Export(name, _size(self.address, size), flags, structured=self.structured)

    def _meta(self, option: Opt, name: str, contexts: tuple[str, ...]) -> dict[str, int]:
        """Ids of those contexts that there are; without any asked for, all that there are."""
        parts = [len(name.encode()).to_bytes(4, "big"), name.encode(), len(contexts).to_bytes(4, "big")]
        for each in contexts:
            parts += [len(each).to_bytes(4, "big"), each.encode()]
        self.send(option, b"".join(parts))
        found: dict[str, int] = {}
        for _ in range(1024):
            kind, data = self.answer(option)
            if kind == Rep.META_CONTEXT and len(data) > 4:
                found[wire.text(data[4:])] = int.from_bytes(data[:4], "big")
            elif kind == Rep.ACK or kind > 1 << 31:
                return found
            else:
                raise Broken("an answer about contexts that makes no sense came")
        raise Broken("contexts without an end came")

    def exports(self) -> Iterator[Export]:
        """All exports with what is told of them."""
        try:
            if not self.fixed:
                raise ImageError(f"{self.address}: the server is too old to list its exports")
            self.structured = self._ask(Opt.STRUCTURED_REPLY)
            self.send(Opt.LIST)
            names: list[tuple[str, str]] = []
            while True:
                kind, data = self.answer(Opt.LIST)
                if kind == Rep.ACK:
                    break
                if kind != Rep.SERVER:
                    raise self.refused(Opt.LIST, kind, data)
                length = int.from_bytes(data[:4], "big")
                names.append((wire.text(data[4 : 4 + length]), wire.text(data[4 + length :])))
                if len(names) > MOST_EXPORTS:
                    raise Broken("a list without an end came")
            for name, description in names:
                export = self.about(name)
                if export is None:
                    export = Export(name)
                export.description = export.description or description
                if self.structured:
                    export.contexts = self._meta(Opt.LIST_META_CONTEXT, name, ())
                yield export
            self.send(Opt.ABORT)
        except Broken as error:
            raise ImageError(f"{self.address}: {error.text} during the handshake") from None


def _size(address: Address, size: int) -> int:
    if size >= 1 << 63:
        raise ImageError(f"{address}: the server claims an export of {size} bytes")
    return size
