"""Flattened device trees, version 17 (Devicetree Specification 0.4, chapter 5): made, read and edited."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAGIC, VERSION, LAST_COMPATIBLE = 0xD00DFEED, 17, 16
HEADER = struct.Struct(">10I")
BEGIN_NODE, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9
DEEPEST = 64  # levels of a tree that is read
LONGEST_NAME = 255  # bytes there; properties may share the text of their names


class DeviceTreeError(ValueError):
    """The bytes are no device tree; the text says why."""


def cells(*values: int) -> bytes:
    """Words of 32 bits."""
    return struct.pack(f">{len(values)}I", *values)


def wide(*values: int) -> bytes:
    """Addresses and sizes of two cells each."""
    return struct.pack(f">{len(values)}Q", *values)


def strings(*values: str) -> bytes:
    """A list of strings."""
    return b"".join(os.fsencode(value) + b"\0" for value in values)


@dataclass
class Node:
    """A node: properties by name, in order, and the nodes below it by name with unit address."""

    properties: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)

    def child(self, name: str) -> Node:
        """The node `name` below this one, made when there is none."""
        return self.children.setdefault(name, Node())

    def set(self, name: str, value: bytes | str | int = b"") -> Node:
        """Set a property: bytes, a string, a cell, or nothing; this node."""
        self.properties[name] = strings(value) if isinstance(value, str) else cells(value) if isinstance(value, int) else value
        return self

    def text(self, name: str) -> str:
        """A property as a string, "" where it is not there."""
        return self.properties.get(name, b"").split(b"\0")[0].decode("utf-8", "replace")


class Tree:
    """A device tree: `root`, and the ranges of memory in `reserved`."""

    def __init__(self) -> None:
        self.root = Node()
        self.reserved: list[tuple[int, int]] = []
        self.boot_processor = 0
        self._last = 0

    def node(self, path: str) -> Node:
        """The node at `path` from the root, made where it is missing."""
        node = self.root
        for name in path.strip("/").split("/") if path.strip("/") else ():
            node = node.child(name)
        return node

    def phandle(self, node: Node) -> int:
        """The number by which others name `node`, of a tree that is made here."""
        if "phandle" not in node.properties:
            self._last += 1
            node.set("phandle", self._last)
        return int.from_bytes(node.properties["phandle"], "big")

    def pack(self) -> bytes:
        """The tree as it lies in memory."""
        names = bytearray()
        offsets: dict[str, int] = {}
        structure = bytearray()

        def put(name: str, node: Node) -> None:
            structure.extend(cells(BEGIN_NODE) + _padded(name.encode() + b"\0"))
            for key, value in node.properties.items():
                if key not in offsets:
                    offsets[key] = len(names)
                    names.extend(key.encode() + b"\0")
                structure.extend(cells(PROP, len(value), offsets[key]) + _padded(value))
            for child, below in node.children.items():
                put(child, below)
            structure.extend(cells(END_NODE))

        put("", self.root)
        structure += cells(END)
        reservations = b"".join(wide(start, size) for start, size in (*self.reserved, (0, 0)))
        at_structure = HEADER.size + len(reservations)
        at_names = at_structure + len(structure)
        total = at_names + len(names)
        head = (
            MAGIC,
            total,
            at_structure,
            at_names,
            HEADER.size,
            VERSION,
            LAST_COMPATIBLE,
            self.boot_processor,
            len(names),
            len(structure),
        )
        return HEADER.pack(*head) + reservations + bytes(structure) + bytes(names)

    @classmethod
    def unpack(cls, data: bytes) -> Tree:
        """Read a tree. DeviceTreeError when it is damaged."""
        if len(data) < HEADER.size:
            raise DeviceTreeError("it is too short")
        magic, total, at_structure, at_names, at_reserved, version, compatible, boot, names_size, size = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise DeviceTreeError("it does not begin with 0xd00dfeed")
        if compatible > VERSION or version < LAST_COMPATIBLE:
            raise DeviceTreeError(f"it is of version {version}, which is not {VERSION}")
        if total > len(data):
            raise DeviceTreeError("it is cut off")
        if version < 17:
            size = total - at_structure
        if at_structure % 4 or at_structure + size > total or at_names + names_size > total:
            raise DeviceTreeError("its parts lie outside of it")
        tree = cls()
        tree.boot_processor = boot
        tree.reserved = list(_reservations(data[:total], at_reserved))
        tree.root = _Reader(data[at_structure : at_structure + size], data[at_names : at_names + names_size]).read()
        return tree


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _reservations(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    while at + 16 <= len(data):
        start, size = struct.unpack_from(">QQ", data, at)
        if not start and not size:
            return
        yield start, size
        at += 16
    raise DeviceTreeError("its memory reservations do not end")


class _Reader:
    """The structure block, token by token."""

    def __init__(self, structure: bytes, names: bytes) -> None:
        self._data, self._names, self._at = structure, names, 0

    def read(self) -> Node:
        path: list[Node] = []
        root: Node | None = None
        while True:
            token = self._word()
            if token == BEGIN_NODE:
                name = self._string(self._data, self._at)
                self._skip(len(name.encode()) + 1)
                if root is None:
                    root = Node()
                    path.append(root)
                    continue
                if not path or len(path) == DEEPEST:
                    raise DeviceTreeError("its nodes are not nested as they should be")
                if name in path[-1].children:
                    raise DeviceTreeError(f"two nodes are called {name}")
                path.append(path[-1].child(name))
            elif token == PROP and path:
                length, offset = self._word(), self._word()
                if self._at + length > len(self._data):
                    raise DeviceTreeError("a property is cut off")
                path[-1].properties[self._string(self._names, offset)] = self._data[self._at : self._at + length]
                self._skip(length)
            elif token == END_NODE and path:
                path.pop()
            elif token == END and root is not None and not path:
                return root
            elif token != NOP:
                raise DeviceTreeError(f"the token {token:#x} stands where it cannot")

    def _word(self) -> int:
        if self._at + 4 > len(self._data):
            raise DeviceTreeError("it ends too soon")
        (word,) = struct.unpack_from(">I", self._data, self._at)
        self._at += 4
        return int(word)

    def _skip(self, count: int) -> None:
        self._at += count + -count % 4

    @staticmethod
    def _string(data: bytes, at: int) -> str:
        end = data.find(b"\0", at, at + LONGEST_NAME + 1)
        if at > len(data) or end < 0:
            raise DeviceTreeError("a name does not end where it should")
        try:
            return data[at:end].decode("ascii")
        except UnicodeDecodeError:
            raise DeviceTreeError("a name is not ASCII") from None
