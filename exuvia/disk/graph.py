"""From a description to open nodes. A description is QMP's BlockdevOptions as a dict; a file name or `json:{…}` is a short form of one.

{"driver": "qcow2", "file": {"driver": "file", "filename": "disk.qcow2"}}
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from exuvia.disk.filter import Filter
from exuvia.disk.format import Format
from exuvia.disk.formats.raw import Raw
from exuvia.disk.node import ImageError, Node
from exuvia.disk.options import values
from exuvia.support.errors import UserError
from exuvia.support.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

FORMATS: Registry[Format] = Registry("exuvia.disk.formats", Format, "format", by_file=True)
PROTOCOLS: Registry[Node] = Registry("exuvia.disk.protocols", Node, "protocol", by_file=True)
FILTERS: Registry[Filter] = Registry("exuvia.disk.filters", Filter, "filter", by_file=True)
HEAD = 64 << 10  # bytes of a file that probing sees
DEEPEST = 200  # images in a chain of backing files
DISCARD = {"ignore": "ignore", "off": "ignore", "unmap": "unmap", "on": "unmap"}
Description: TypeAlias = "Mapping[str, Any]"


def describe(name: str) -> dict[str, Any]:
    """The description of what a file name, a URL (`nbd://…`), `json:{…}` or `PROTOCOL:…` names. Raises UserError."""
    if name.startswith("json:"):
        import json

        try:
            found = json.loads(name[5:])
        except ValueError as error:
            raise UserError(f"'{name}' is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise UserError(f"'{name}' is not a JSON object")
        return _nested(found)
    scheme, colon, rest = name.partition(":")
    if colon and "/" not in scheme and scheme != "file":
        for driver in (*PROTOCOLS.values(), *FILTERS.values()):
            if scheme in getattr(driver, "schemes", ()):
                return driver.describe(name)  # type: ignore[attr-defined,no-any-return]
        raise UserError(f"Unknown protocol '{scheme}' (write ./{name} for a file of that name)")
    path = rest if colon and scheme == "file" else name
    if path is not name and ":" in path.split("/")[0]:
        path = f"./{path}"  # so that it stays one name when somebody reads it again
    try:
        device = os.stat(path).st_mode & 0o170000 in (0o060000, 0o020000)
    except (OSError, ValueError):
        device = False
    return {"driver": "host_device" if device else "file", "filename": path}


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`file.filename` and the like as dicts in dicts."""
    result: dict[str, Any] = {}
    for key, value in flat.items():
        inner, *path = reversed(key.split("."))
        place = result
        for part in reversed(path):
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"'{key}' says more of '{part}', which has a value already")
        place[inner] = _nested(value) if isinstance(value, Mapping) else value
    return result


def _flat(said: Mapping[str, Any]) -> dict[str, Any]:
    """A format's own options as it declares them: what is nested, such as `encrypt`, as `encrypt.format` and the like."""
    result: dict[str, Any] = {}
    for key, value in said.items():
        if isinstance(value, Mapping):
            result.update({f"{key}.{inner}": each for inner, each in _flat(value).items()})
        else:
            result[key] = value
    return result


def nested(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """The description that `driver=qcow2,file.filename=x` (--image-opts, -drive) means, of its pairs."""
    return _nested(pairs)


def open_protocol(description: Description | str, *, writable: bool = False, share: bool = False, create: bool = False) -> Node:
    """The node that holds an image's bytes. `create` makes the file where there is none."""
    said = dict(describe(description) if isinstance(description, str) else description)
    said = {key: value for key, value in said.items() if key not in COMMON}
    if "driver" not in said and isinstance(said.get("file"), Mapping):  # a short form of something that formats stand on
        said = dict(said["file"])
    if "driver" not in said:
        if not isinstance(said.get("filename"), str):
            raise UserError("a description of what holds an image needs driver, or filename")
        said = {**said, **describe(said["filename"])}
    if said["driver"] in FILTERS:
        return _open_filter(said, writable=writable, share=share, bottom=True)
    driver: Any = PROTOCOLS[said.pop("driver")]  # each has its own keywords
    given = {key: value for key, value in values(driver.OPTIONS, said, f"protocol {driver.name}").items() if value is not None}
    extra = {"create": True} if create else {}
    node: Node = driver(**given, writable=writable, share=share, **extra)
    return node


COMMON = (
    "node-name",
    "cache",
    "read-only",
    "auto-read-only",
    "detect-zeroes",
    "force-share",
)  # of every node; what runs the graph looks at them


def _open_filter(said: Description, *, writable: bool, share: bool, bottom: bool, chain: bool = True, depth: int = 0) -> Filter:
    """A filter with what is under it: images, or at the `bottom`, under a format, what holds an image's bytes. Raises UserError."""
    said = {key: value for key, value in said.items() if key not in COMMON}
    kind = FILTERS[said.pop("driver")]
    nodes: list[Node] = []
    try:
        for role in kind.CHILDREN:
            child: Any = said.pop(role, None)
            if not isinstance(child, str | Mapping):
                raise UserError(f"{kind.name}: '{role}' is missing, what it stands in front of")
            driver = None if isinstance(child, str) else child.get("driver", "file")
            if driver in FILTERS:
                below: Any = child
                nodes.append(_open_filter(below, writable=writable, share=share, bottom=bottom, chain=chain, depth=depth))
            elif bottom and driver not in FORMATS:
                nodes.append(open_protocol(child, writable=writable, share=share))
            else:
                named = isinstance(child, Mapping) and "driver" in child and driver in PROTOCOLS
                nodes.append(open_image(child, "raw" if named else None, writable=writable, share=share, chain=chain, _depth=depth))
        given = {key: value for key, value in values(kind.OPTIONS, said, f"filter {kind.name}").items() if value is not None}
        node = kind(*nodes, writable=writable, **given)
        node.said = dict(said)
    except BaseException:
        for child_node in nodes:
            child_node.close()
        raise
    return node


def probe(file: Node) -> type[Format]:
    """The format that the file's first bytes and name suggest; raw where none does."""
    return suggested(file.read(0, min(HEAD, file.size)), file.filename)


def suggested(head: bytes, filename: str) -> type[Format]:
    """The format that a file's first bytes suggest."""
    return max(FORMATS.values(), key=lambda each: each.probe(head, filename))


def open_image(
    image: Description | str, format: str | None = None, *, writable: bool = False, share: bool = False, chain: bool = True, _depth: int = 0
) -> Format:
    """The image with everything under it. `format` None probes; `chain` False leaves its backing image out. Raises UserError."""
    said = dict(describe(image) if isinstance(image, str) else image)
    if said.get("read-only") in (True, "on"):
        writable = False
    share = share or said.get("force-share") in (True, "on")
    name = said.get("driver")
    below: Any = None
    if name in FILTERS:
        return _open_filter(said, writable=writable, share=share, bottom=False, chain=chain, depth=_depth)
    if name is None and "file" not in said and "filename" in said:
        said["driver"] = name = describe(said["filename"])["driver"]
    if name is not None and name in PROTOCOLS:
        below, said = said, {}
    elif "file" in said:
        below = said.pop("file")
        said.pop("driver", None)
        if (discard := said.pop("discard", None)) is not None:  # the file's to do, unless that says otherwise
            if discard not in DISCARD:
                raise UserError("Invalid discard option")
            if isinstance(below, Mapping) and below.get("driver", "file") == "file":
                below = {"discard": DISCARD[discard], **below}
        format = name or format
    else:
        raise UserError(f"a description of driver '{name}' has no file")
    file = (
        open_protocol(below, writable=writable, share=share)
        if not isinstance(below, Mapping) or below.get("driver", "file") in PROTOCOLS or below["driver"] in FILTERS
        else open_image(below, writable=writable, share=share, chain=chain, _depth=_depth)
    )
    try:
        kind = FORMATS[format] if format is not None else probe(file)
        backing = (said.pop("backing") or None) if "backing" in said else ""
        own = _flat({key: value for key, value in said.items() if key not in COMMON})
        given = {key: value for key, value in values(kind.OPTIONS, own, f"format {kind.name}").items() if value is not None}

        def opener(other: str, to_write: bool) -> Node:
            return open_protocol(
                beside(file.filename, other),
                writable=to_write,
                share=share,
                create=to_write and not os.path.lexists(beside(file.filename, other)),
            )

        node = kind(file, writable=writable, opener=opener, **given)
        node.said = own
        if writable and format is None and isinstance(node, Raw):
            node.guard = lambda head: suggested(head, "") is Raw
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise ImageError(f"{file.filename}: what the image says of itself cannot be read: {error.strerror or error}") from error
        raise
    try:
        if chain and backing is not None:
            _open_backing(node, backing, share, _depth)
    except BaseException:
        node.close()
        raise
    return node


class TooDeep(ImageError):
    """A chain of backing files without an end: told once, not once for each of them."""


def _open_backing(node: Format, said: Any, share: bool, depth: int) -> None:
    """Open what the image stands on: as `said`, or as is written inside."""
    if depth >= DEEPEST:
        raise TooDeep(f"{node.filename}: more than {DEEPEST} images stand on one another, is there a circle?")
    try:
        if isinstance(said, Mapping) or said:
            node.backing = open_image(said, share=share, _depth=depth + 1)
        elif node.backing_file:
            name = beside(node.filename, node.backing_file)
            node.backing = open_image(name, node.backing_format, share=share, _depth=depth + 1)
    except TooDeep:
        raise
    except UserError as error:
        raise ImageError(f"{node.filename}: Could not open backing file: {error}") from None


def reopen_backing(top: Format, layer: Format, writable: bool = True) -> Format:
    """Open an image of the chain under `top` again, for writing; it takes the old node's place. Raises UserError."""
    above: Node = top
    while (below := getattr(above, "backing", None)) is not layer:
        if below is None:
            raise ValueError(f"{layer.filename} is not in the chain of {top.filename}")
        above = below
    under, layer.backing = layer.backing, None
    layer.close()
    assert isinstance(above, Format)
    try:
        again = open_image(layer.filename, layer.name, writable=writable, chain=False)
    except UserError:
        above.backing = None
        if under is not None:
            under.close()
        raise
    again.backing, above.backing = under, again
    return again


def beside(filename: str, other: str) -> str:
    """How `other`, written inside `filename`, is reached from here: relative names are relative to the image's folder."""
    if os.path.isabs(other) or ":" in other.split("/")[0]:
        return other
    folder, _, _ = filename.rpartition("/")
    return f"{folder}/{other}" if folder else other
