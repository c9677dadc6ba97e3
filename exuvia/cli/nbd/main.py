"""exuvia-nbd: serve a disk image to clients of the NBD protocol.

usage: exuvia-nbd [OPTIONS] FILE
  or:  exuvia-nbd -L [OPTIONS]

where clients connect:
  -p, --port PORT           port to listen on (10809)
  -b, --bind HOST           address to bind to (0.0.0.0)
  -k, --socket PATH         a Unix socket instead
  -e, --shared NUM          clients at once (1), 0 for any number
  -t, --persistent          go on when the last client has left
  -x, --export-name NAME    the export's name ("")
  -D, --description TEXT    what it is, for people
  -v, --verbose             tell about clients

what they see:
  -f, --format FMT          the image's format; found out where it is left out
  -r, --read-only           nobody writes
  -o, --offset OFFSET       leave out the beginning of the image
  -A, --allocation-depth    tell which image of a chain has what
  -B, --bitmap NAME         tell what a dirty bitmap of the image says (as often as wanted)
  -s, --snapshot            leave the image alone: what is written goes to a temporary file
  -l, --load-snapshot SNAP  an internal snapshot (ID, NAME, or snapshot.id=ID,snapshot.name=NAME), read-only
  -n, --nocache; --cache MODE; --aio MODE; --discard MODE (ignore); --detect-zeroes MODE
  --image-opts              FILE is a description: KEY=VALUE,...
  -T, --trace               is taken and means nothing

other:
  -L, --list                list the exports of the server at -b and -p, or -k
  --object OBJECT           secret, tls-creds-x509, authz-simple, throttle-group ...
  --tls-creds ID, --tls-authz ID, --tls-hostname NAME
  --fork                    return when the server is ready; it goes on in the background
  --pid-file PATH           write the server's process id there
  -c, --connect DEV         make FILE the kernel's device /dev/nbdN, until it is disconnected
  -d, --disconnect DEV      disconnect such a device
  -h, --help; -V, --version

example: exuvia-nbd -t -e 0 -k /tmp/disk.sock -f qcow2 disk.qcow2 &
         exuvia-img info 'nbd+unix:///?socket=/tmp/disk.sock'
"""

from __future__ import annotations

from exuvia.cli import arguments as command_line
from exuvia.cli.program import Wrong, start
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

OPTIONS = """version/V port/p= bind/b= socket/k= shared/e= persistent/t export-name/x= description/D= verbose/v format/f= read-only/r
    offset/o= allocation-depth/A bitmap/B= snapshot/s load-snapshot/l= nocache/n cache= aio= discard= detect-zeroes= image-opts list/L
    object= tls-creds= tls-authz= tls-hostname= fork pid-file= connect/c= disconnect/d= trace/T= selinux-label= partition/P="""
SINGLE = ("cache", "nocache", "aio", "discard", "detect-zeroes")


class Arguments(command_line.Arguments):
    """The command line, asked for the last values of options."""

    def __init__(self, words: Sequence[str]) -> None:
        found = command_line.parse(words, OPTIONS)
        self.given, self.rest = found.given, found.rest
        self.last = dict(self.given)

    def __contains__(self, name: str) -> bool:
        return name in self.last

    def get(self, name: str, default: str = "") -> str:
        """The last value."""
        return self.last.get(name, default)

    def number(self, name: str, default: int, least: int = 0) -> int:
        """A number. Raises UserError."""
        text = self.get(name, str(default))
        try:
            value = int(text, 0)
        except ValueError:
            value = -1
        if value < least:
            raise UserError(f"Invalid {name.replace('-', ' ')} '{text}'" + (f", a number from {least} on is wanted" if least else ""))
        return value


def run(words: Sequence[str]) -> int:
    """The command line."""
    arguments = Arguments(words)
    if "help" in arguments:
        print((__doc__ or "").split("\n", 2)[2].rstrip())
        return 0
    if "version" in arguments:
        from exuvia import __version__

        print(f"exuvia-nbd {__version__}")
        return 0
    for text in arguments.values("object"):
        from exuvia.disk.objects import define

        define(text)
    if "list" in arguments:
        from exuvia.cli.nbd.listing import list_exports

        return list_exports(arguments)
    if "disconnect" in arguments:
        from exuvia.cli.nbd.device import disconnect

        return disconnect(arguments.get("disconnect"))
    check(arguments)
    from exuvia.cli.nbd.serve import serve

    return serve(arguments)


def check(arguments: Arguments) -> None:
    """Refuse what does not go together. Raises UserError."""
    if "partition" in arguments:
        raise UserError("-P is gone, as in QEMU: give -o OFFSET, or --image-opts driver=raw,offset=…,size=…,file.driver=…")
    if len(arguments.rest) != 1:
        raise Wrong("Invalid number of arguments")
    for name in SINGLE:
        if len(arguments.values(name)) > 1:
            raise UserError(f"--{name} can only be specified once")
    if "cache" in arguments and "nocache" in arguments:
        raise UserError("-n and --cache can only be specified once")
    if "socket" in arguments and ("port" in arguments or "bind" in arguments):
        raise UserError("-k and -p/-b are mutually exclusive")
    if "image-opts" in arguments and "format" in arguments:
        raise UserError("--image-opts and -f are mutually exclusive")
    if "tls-authz" in arguments and "tls-creds" not in arguments:
        raise UserError("--tls-authz is not permitted without --tls-creds")
    if "selinux-label" in arguments:
        raise UserError("SELinux labels are not supported")
    if arguments.get("detect-zeroes") == "unmap" and arguments.get("discard", "ignore") not in ("unmap", "on"):
        raise UserError("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap")
    if "tls-hostname" in arguments:
        raise UserError("TLS hostname is only supported with export list")
    if "tls-creds" in arguments and "connect" in arguments:
        raise UserError("TLS is not supported with a host device")
    for name in ("export-name", "description"):
        if len(arguments.get(name).encode()) > 4096:
            raise UserError(f"{name.replace('-', ' ')} '{arguments.get(name)[:20]}…' too long, 4096 bytes at most")
    for name, words in (("aio", ("threads", "native", "io_uring")), ("discard", ("ignore", "off", "unmap", "on")),
                        ("detect-zeroes", ("off", "on", "unmap"))):  # fmt: skip
        if name in arguments and arguments.get(name) not in words:
            raise UserError(f"Invalid {name} mode '{arguments.get(name)}' ({', '.join(words)})")


def main() -> NoReturn:
    """The console script `exuvia-nbd`."""
    start("exuvia-nbd", run)


if __name__ == "__main__":
    main()
