"""-L: what a server exports, in qemu-nbd's words."""

from __future__ import annotations

from exuvia.disk.nbd.address import Address
from exuvia.disk.nbd.handshake import Haggler
from exuvia.disk.nbd.wire import PORT, Flag
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.cli.nbd.main import Arguments

WORDS = {Flag.READ_ONLY: "readonly", Flag.FLUSH: "flush", Flag.FUA: "fua", Flag.ROTATIONAL: "rotational", Flag.TRIM: "trim",
         Flag.ZEROES: "zeroes", Flag.DF: "df", Flag.MULTI: "multi", Flag.RESIZE: "resize", Flag.CACHE: "cache",
         Flag.FAST_ZERO: "fast-zero"}  # fmt: skip


def list_exports(arguments: Arguments) -> int:
    """Print them."""
    if arguments.rest:
        raise UserError("List mode is incompatible with a file name")
    for name in ("export-name", "description", "offset", "read-only", "bitmap", "allocation-depth", "snapshot", "connect", "fork"):
        if name in arguments:
            raise UserError("List mode is incompatible with per-device settings")
    tls = None
    if "tls-creds" in arguments:
        from exuvia.disk.nbd.tls import context

        tls = context(arguments.get("tls-creds"), server=False)
    if "socket" in arguments:
        address = Address(path=arguments.get("socket"))
    else:
        address = Address(arguments.get("bind", "localhost"), arguments.get("port", str(PORT)))
    haggler = Haggler(address, tls, arguments.get("tls-hostname") or address.host or None)
    exports = list(haggler.exports())
    haggler.close()
    print(f"exports available: {len(exports)}")
    for export in exports:
        print(f" export: '{export.name}'")
        if export.description:
            print(f"  description: {export.description}")
        if export.flags:
            print(f"  size:  {export.size}")
            words = " ".join(word for flag, word in WORDS.items() if flag & export.flags)
            print(f"  flags: 0x{export.flags:x} ( {words} )")
        if export.told_sizes:
            print(f"  min block: {export.least}\n  opt block: {export.preferred}\n  max block: {export.most}")
        if export.contexts:
            print(f"  available meta contexts: {len(export.contexts)}")
            for context_name in export.contexts:
                print(f"   {context_name}")
    return 0
