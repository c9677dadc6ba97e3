"""How commands make images: options of creation (-o), the line that says what is made, and the making itself."""

from __future__ import annotations

import os

from exuvia.cli import keyval
from exuvia.disk.chain import layers, stretches
from exuvia.disk.format import Format
from exuvia.disk.formats.raw import Raw
from exuvia.disk.graph import FORMATS, PROTOCOLS, beside, describe, open_protocol
from exuvia.disk.node import Kind, Node
from exuvia.disk.options import Option
from exuvia.disk.protocols.file import File
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECTOR = 512
SIZE = Option("size", "size", None, "Virtual disk size")


def format_named(name: str) -> type[Format]:
    """The format. Raises UserError."""
    if name not in FORMATS:
        raise UserError(f"Unknown file format '{name}'")
    return FORMATS[name]


def must_create(kind: type[Format]) -> None:
    """Refuse a format whose images can only be read. Raises UserError."""
    if not kind.can_create():
        raise UserError(f"Format driver '{kind.name}' does not support image creation")


def declared(kind: type[Format], protocol: type[Node] | None) -> dict[str, Option]:
    """All options of creation: the format's, the size first unless the format says where it stands, then those of the protocol."""
    own = {option.name: option for option in kind.CREATE}
    own = own if "size" in own else {"size": SIZE, **own}
    return {**own, **{option.name: option for option in getattr(protocol, "CREATE", ()) if option.name not in own}}


def protocol_of(name: str) -> type[Node]:
    """The protocol that reaches the file called `name`."""
    return PROTOCOLS[describe(name)["driver"]]


def help_of(texts: list[str], format: str, name: str | None) -> str:
    """The answer to `-o help`, "" where nobody asked."""
    if not any(word in ("help", "?") for text in texts for word in keyval.split(text)):
        return ""
    kind = format_named(format)
    must_create(kind)
    lines = [
        f"Supported {kind.name} options:" if name is None else "Supported options:",
        *described(declared(kind, protocol_of(name) if name else None)),
    ]
    if name is None:
        lines += ["", "The protocol level may support further options.", "Specify the target filename to include those options."]
    return "\n".join(lines) + "\n"


def described(options: dict[str, Option]) -> list[str]:
    """A line for each, in order of the alphabet."""
    lines = []
    for name in sorted(options):
        option = options[name]
        word = {bool: "bool (on/off)", int: "num", "size": "size"}.get(option.type if not isinstance(option.type, tuple) else str, "str")
        lines.append(f"  {f'{name}=<{word}>':<22} - {option.text}")
    return lines


def options_of(kind: type[Format], name: str | None, texts: list[str], amend: tuple[Option, ...] | None = None) -> dict[str, Any]:
    """What -o said, checked; with `amend` only those can be given. Raises UserError."""
    creation = declared(kind, protocol_of(name) if name is not None else None)
    known = creation if amend is None else {option.name: option for option in amend}
    given: dict[str, Any] = {}
    for text in texts:
        if not text or text.startswith(",") or text.endswith(",") and len(text) - len(text.rstrip(",")) & 1:
            raise UserError(f"Invalid option list: {text}")
        for key, value in keyval.parse(text):
            if key not in known and key.startswith("no") and value == "on" and getattr(known.get(key[2:]), "type", None) is bool:
                key, value = key[2:], "off"
            if key not in known:
                hint = "\nThis option is only supported for image creation" if amend is not None and key in creation else ""
                raise UserError(f"Invalid parameter '{key}'{hint}")
            try:
                option = known[key]
                given[key] = value if isinstance(option.type, tuple) else option.value(value)
            except UserError as error:
                raise UserError(_refusal(known[key], str(error))) from None
    return given


def _refusal(option: Option, text: str) -> str:
    if option.type == "size":
        return (
            f"Parameter '{option.name}' expects a non-negative number below 2^64\n"
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
        )
    words = {bool: "'on' or 'off'", int: "a number"}
    return f"Parameter '{option.name}' expects {words[option.type]}" if option.type in (bool, int) else text


def listing(kind: type[Format], name: str, size: int, given: dict[str, Any]) -> str:
    """`Formatting 'NAME', fmt=…`: what was given or has a default that is worth telling, in the order in which it is declared."""
    words = [f"Formatting '{name}', fmt={kind.name}"]
    for key, option in declared(kind, protocol_of(name)).items():
        value = size if key == "size" else given.get(key, option.default if option.told else None)
        if value is not None:
            words.append(f"{key}={_quoted(value)}")
    return " ".join(words)


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def check_backing(backing: str | None, format: str | None) -> None:
    """Refuse what makes no sense once it has been told."""
    if format and not backing:
        raise UserError("Backing format cannot be used without backing file")


def make(kind: type[Format], name: str, size: int, given: dict[str, Any]) -> None:
    """An empty image in the file `name`, which is emptied first where it is there. Raises UserError; then no new file is left behind."""
    known = declared(kind, protocol_of(name))
    options = {key: option.value(given[key]) if given.get(key) is not None else option.default for key, option in known.items()}
    options["size"] = size
    made: list[str] = []

    def opener(other: str, writable: bool) -> Node:
        return _file(beside(name, other), made) if writable else open_protocol(beside(name, other))

    try:
        if os.path.lexists(name):
            _try(kind, name, size, options)
        with _file(name, made) as file:
            if isinstance(file, File):
                file.prepare(bool(options.get("nocow")), int(options.get("extent_size_hint") or 0))
            kind.create(file, size, options, opener)
    except BaseException as error:
        for path in made:
            try:
                os.unlink(path)
            except OSError:
                pass
        if isinstance(error, OSError):
            raise UserError(f"Could not create '{name}': {error.strerror or error}") from None
        raise


def not_needed(name: str, source: Format) -> None:
    """Refuse to make an image where the source, or an image under it, is. Raises UserError."""
    for layer in layers(source):
        if os.path.exists(name) and os.path.exists(layer.filename) and os.path.samefile(name, layer.filename):
            raise UserError(f"the source '{source.filename}' needs '{layer.filename}'")


class _Started(Exception):
    """Creation got as far as writing."""


class _Trial(Node):
    """A file that nothing reaches."""

    name = "trial"
    writable = True
    size = 0

    def __init__(self, filename: str) -> None:
        self.filename = filename

    def writev(self, offset: int, data: Vector) -> None:
        raise _Started

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        raise _Started

    def resize(self, size: int, preallocation: str = "off") -> None:
        raise _Started


def _try(kind: type[Format], name: str, size: int, options: dict[str, Any]) -> None:
    """Let wrong options be refused while the old content is still there."""
    try:
        kind.create(_Trial(name), size, dict(options), lambda other, _: _Trial(beside(name, other)))
    except _Started:
        pass


def _file(name: str, made: list[str]) -> Node:
    """The node for bytes of a new image, empty; a file that was not there goes to `made`."""
    description = describe(name)
    local = description["driver"] == "file"
    if local and not os.path.lexists(description["filename"]):
        made.append(description["filename"])
    try:
        node = open_protocol(description, writable=True, create=local)
    except UserError as error:
        raise UserError(str(error).replace("Could not open", "Could not create")) from None
    if isinstance(node, File):
        node.unsafe = True
    if isinstance(node, File) and local:
        os.ftruncate(node.fd, 0)
    elif node.size:  # a device, or a server's: it has its size, and what it began with shall not be found again
        node.write(0, bytes(min(node.size, SECTOR)))
    return node


def blank(node: Node) -> bool:
    """Whether a new image reads as zeros everywhere: the files that hold it were emptied, or its tables say so."""
    if isinstance(node, Raw):
        return blank(node.file)
    emptied = isinstance(node, Format) and not node.encrypted and all(blank(child) for _, child in node.children())
    return node.name == "file" or emptied or all(kind is not Kind.DATA for _, _, kind in stretches(node, 0, node.size))
