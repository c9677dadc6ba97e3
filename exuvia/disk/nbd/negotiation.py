"""The server's side of the handshake: fixed newstyle, options until the client enters transmission."""

from __future__ import annotations

from exuvia.disk.nbd import wire
from exuvia.disk.nbd.export import BITMAP, Export
from exuvia.disk.nbd.wire import Broken, Channel, Info, Opt, Rep

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

MOST_OPTIONS = 1000  # in one handshake
LARGEST_OPTION = 64 << 10  # bytes
ENOUGH = 128  # contexts that a client may ask for


class Negotiation:
    """`run` returns the export that the client has chosen, None when it left. What was agreed on stays in the attributes.

    `permits` is asked, once TLS is there, whether a client of that name may come in.
    """

    def __init__(
        self,
        channel: Channel,
        exports: Mapping[str, Export],
        tls: ssl.SSLContext | None = None,
        permits: Callable[[str], bool] = lambda peer: True,
    ) -> None:
        self.channel, self.exports, self.tls, self.permits = channel, exports, tls, permits
        self.structured = False
        self.contexts: list[str] = []
        self._for: str | None = None  # the export whose contexts were set
        self._secure = False

    def run(self) -> Export | None:
        """Raises Broken for a client that breaks the protocol."""
        self.channel.send(wire.GREETING.pack(wire.INIT, wire.OPTION_MAGIC, wire.FIXED_NEWSTYLE | wire.NO_ZEROES))
        flags = int.from_bytes(self.channel.receive(4), "big")
        if flags & ~(wire.FIXED_NEWSTYLE | wire.NO_ZEROES):
            raise Broken(f"the client has flags {flags:#x}")
        self.bare = bool(flags & wire.NO_ZEROES)
        for _ in range(MOST_OPTIONS):
            magic, option, length = wire.OPTION.unpack(self.channel.receive(wire.OPTION.size))
            if magic != wire.OPTION_MAGIC:
                raise Broken("no option, where one was due")
            if length > LARGEST_OPTION:
                if length > wire.LARGEST:
                    raise Broken(f"an option with {length} bytes")
                self.channel.skip(length)
                self._say(option, Rep.ERR_TOO_BIG)
                continue
            data = self.channel.receive(length)
            if self.tls is not None and not self._secure and option not in (Opt.STARTTLS, Opt.ABORT):
                if option == Opt.EXPORT_NAME:
                    raise Broken("the client did not ask for TLS")
                self._say(option, Rep.ERR_TLS_REQD, b"Option 0x%x not permitted before TLS" % option)
                continue
            if option == Opt.ABORT:
                self._say(option, Rep.ACK)
                return None
            if option == Opt.EXPORT_NAME:
                return self._export_name(data)
            if option in (Opt.GO, Opt.INFO):
                export = self._about(option, data)
                if export is not None and option == Opt.GO:
                    return export
            else:
                self._other(option, data)
        raise Broken("options without an end")

    def _say(self, option: int, kind: Rep, data: bytes = b"") -> None:
        self.channel.send(wire.OPTION_REPLY.pack(wire.REPLY_MAGIC, option, kind, len(data)), data)

    def _other(self, option: int, data: bytes) -> None:
        if option in (Opt.SET_META_CONTEXT, Opt.LIST_META_CONTEXT):
            self._contexts(option, data)
        elif option not in (Opt.LIST, Opt.STARTTLS, Opt.STRUCTURED_REPLY):
            self._say(option, Rep.ERR_UNSUP, b"Unsupported option %d" % option)
        elif data:
            self._say(option, Rep.ERR_INVALID, b"Option %d takes no data" % option)
        elif option == Opt.LIST:
            for export in self.exports.values():
                name = export.name.encode()
                self._say(option, Rep.SERVER, len(name).to_bytes(4, "big") + name + export.description.encode())
            self._say(option, Rep.ACK)
        elif option == Opt.STRUCTURED_REPLY:
            self.structured = True
            self._say(option, Rep.ACK)
        elif self.tls is None:
            self._say(option, Rep.ERR_POLICY, b"TLS not configured")
        elif self._secure:
            self._say(option, Rep.ERR_INVALID, b"TLS already enabled")
        else:
            self._say(option, Rep.ACK)
            from exuvia.disk.nbd.tls import TlsChannel

            self.channel = secured = TlsChannel(self.channel, self.tls, server=True)
            self._secure, self._for, self.contexts, self.structured = True, None, [], False
            if not self.permits(secured.peer()):
                raise Broken(f"'{secured.peer()}' is not authorized")

    def _named(self, option: int, name: bytes) -> Export | None:
        try:
            found = self.exports.get(name.decode())
        except UnicodeDecodeError:
            found = None
        if found is None:
            self._say(option, Rep.ERR_UNKNOWN, b"export '%s' not present" % name[: wire.LONGEST])
        return found

    def _export_name(self, name: bytes) -> Export:
        found = self.exports.get(name.decode("utf-8", "replace"))
        if found is None:
            raise Broken("the client wants an export that there is not")
        self.channel.send(
            wire.EXPORT.pack(found.size, found.flags | (wire.Flag.DF if self.structured else 0)), b"" if self.bare else bytes(124)
        )
        if self._for != found.name:
            self.contexts = []
        return found

    def _about(self, option: int, data: bytes) -> Export | None:
        length = int.from_bytes(data[:4], "big")
        count = int.from_bytes(data[4 + length : 6 + length], "big")
        if len(data) != 6 + length + 2 * count:
            self._say(option, Rep.ERR_INVALID, b"its lengths do not fit")
            return None
        export = self._named(option, data[4 : 4 + length])
        if export is None:
            return None
        wanted = {int.from_bytes(data[at : at + 2], "big") for at in range(6 + length, len(data), 2)}
        if Info.NAME in wanted:
            self._info(option, Info.NAME, export.name.encode())
        if export.description:
            self._info(option, Info.DESCRIPTION, export.description.encode())
        self._info(option, Info.BLOCK_SIZE, b"".join(each.to_bytes(4, "big") for each in (1, 4096, wire.LARGEST)))
        self._info(option, Info.EXPORT, wire.EXPORT.pack(export.size, export.flags | (wire.Flag.DF if self.structured else 0)))
        self._say(option, Rep.ACK)
        if option == Opt.GO and self._for != export.name:
            self.contexts = []
        return export

    def _info(self, option: int, about: Info, data: bytes) -> None:
        self._say(option, Rep.INFO, about.to_bytes(2, "big") + data)

    def _contexts(self, option: int, data: bytes) -> None:
        """Ids are positions in the export's list."""
        if option == Opt.SET_META_CONTEXT:
            self.contexts, self._for = [], None
        length = int.from_bytes(data[:4], "big")
        at, queries = 8 + length, []
        for _ in range(int.from_bytes(data[4 + length : at], "big")):
            size = int.from_bytes(data[at : at + 4], "big")
            queries.append(data[at + 4 : at + 4 + size].decode("utf-8", "replace"))
            at += 4 + size
            if at > len(data) or len(queries) > ENOUGH:
                break
        if at != len(data) or (option == Opt.SET_META_CONTEXT and not self.structured):
            self._say(option, Rep.ERR_INVALID, b"its lengths do not fit, or structured replies were not agreed on")
            return
        export = self._named(option, data[4 : 4 + length])
        if export is None:
            return
        everything = option == Opt.LIST_META_CONTEXT
        for number, context in enumerate(export.contexts):
            if (everything and not queries) or any(_fits(context, query, everything) for query in queries):
                if not everything:
                    self.contexts.append(context)
                self._say(option, Rep.META_CONTEXT, (0 if everything else number).to_bytes(4, "big") + context.encode())
        if not everything:
            self._for = export.name
        self._say(option, Rep.ACK)


def _fits(context: str, query: str, listing: bool) -> bool:
    """A listing knows wildcards: a namespace with nothing behind it, and all bitmaps."""
    return query == context or (listing and query in (context.partition(":")[0] + ":", BITMAP) and context.startswith(query))
