"""Appliances: an .ovf beside its files, or all of them in a tar file, an .ova (DMTF DSP0243, Open Virtualization Format 2.1.1).

A disk inside an .ova is opened where it lies: its description is a window of the tar file.
"""

import hashlib
import io
import os
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from exuvia.disk.graph import FORMATS, beside, open_protocol
from exuvia.disk.node import CHUNK, ImageError, Node
from exuvia.disk.options import LARGEST
from exuvia.support.errors import unknown

LONGEST = 16 << 20  # bytes of a descriptor or a manifest
MOST = 10_000  # files in an appliance
PROCESSOR, MEMORY, NETWORK = "3", "4", "10"  # resource types (DMTF CIM_ResourceAllocationSettingData.ResourceType)
_LINE = re.compile(r"^(SHA1|SHA256|SHA512)\s*\((.+)\)\s*=\s*([0-9A-Fa-f]+)\s*$", re.M)


@dataclass
class Disk:
    """`capacity` in bytes; `place` is (offset, bytes) in the .ova, or None for a file of its own; `file` is "" for an empty disk."""

    id: str
    capacity: int
    file: str
    format: str | None
    place: tuple[int, int] | None = None
    digest: tuple[str, str] | None = None  # the algorithm and what the manifest says


@dataclass
class System:
    """A virtual machine's settings: `memory` in bytes, `networks` (name, kind of card)."""

    name: str
    system: str = ""
    processors: int | None = None
    memory: int | None = None
    networks: list[tuple[str, str]] = field(default_factory=list)


class Appliance:
    """What an .ova or .ovf says. Raises UserError where it is neither, or says what cannot be."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.disks: list[Disk] = []
        self.systems: list[System] = []
        self._members: dict[str, tuple[int, int]] | None = None
        with open_protocol(path) as file:
            head = file.read(0, 512)
            if head[257:262] == b"ustar":
                self._members = _members(file)
                name = next((name for name in self._members if name.lower().endswith(".ovf")), None)
                if name is None:
                    raise ImageError(f"{path}: there is no .ovf in it")
                text = self._read(file, name)
            elif head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
                name = os.path.basename(path)
                text = _bounded(file, 0, file.size, path)
            else:
                raise ImageError(f"{path}: this is neither an .ova nor an .ovf")
            self._parse(text)
            self._manifest(file, name)

    def disk(self, id: str) -> Disk:
        """The disk with this id or file name."""
        for disk in self.disks:
            if id in (disk.id, disk.file):
                return disk
        raise unknown(f"disk in {self.path}", id, [disk.id for disk in self.disks])

    def describe(self, disk: Disk) -> dict[str, Any]:
        """How `open_image` opens it, without unpacking."""
        window = self._window(disk)
        return {"driver": disk.format, "file": window} if disk.format else {"file": window}

    def extract(self, disk: Disk, target: str, watch: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Copy a disk's file as it is to `target`, which is not there yet. Raises ImageError where the manifest's digest is another."""
        said = self._window(disk)
        start = said.get("offset", 0)
        with open_protocol(said["file"] if "offset" in said else said) as file:
            total = said.get("size", file.size)
            digest = hashlib.new(disk.digest[0]) if disk.digest else None
            try:
                with open(target, "xb") as copy:
                    for at in range(0, total, CHUNK):
                        data = file.read(start + at, min(CHUNK, total - at))
                        copy.write(data)
                        if digest:
                            digest.update(data)
                        watch(at + len(data), total)
                    if digest and disk.digest and digest.hexdigest() != disk.digest[1]:
                        raise ImageError(f"{self.path}: {disk.file} is damaged: its {disk.digest[0]} is not what the manifest says")
            except FileExistsError:
                raise ImageError(f"{target} is there already") from None
            except BaseException:
                os.unlink(target)
                raise

    def _window(self, disk: Disk) -> dict[str, Any]:
        if not disk.file:
            raise ImageError(f"{self.path}: disk {disk.id} has no file: it is an empty disk of {disk.capacity} bytes")
        if disk.place is None:
            return {"driver": "file", "filename": beside(self.path, disk.file)}
        offset, size = disk.place
        return {"driver": "raw", "offset": offset, "size": size, "file": {"driver": "file", "filename": self.path}}

    # --- reading

    def _read(self, file: Node, name: str) -> bytes:
        assert self._members is not None
        return _bounded(file, *self._members[name], f"{self.path}: {name}")

    def _parse(self, text: bytes) -> None:
        """The descriptor."""
        try:
            root = ElementTree.fromstring(text, ElementTree.XMLParser(target=_Tree()))
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise ImageError(f"{self.path}: the descriptor is damaged: {error}") from None
        if _tag(root) != "Envelope":
            raise ImageError(f"{self.path}: this is no OVF descriptor: its root is {_tag(root)}")
        files = {_attribute(each, "id"): each for each in _all(root, "File")}
        for each in _all(root, "Disk"):
            self.disks.append(self._disk(each, files))
        for each in _all(root, "VirtualSystem"):
            self.systems.append(self._system(each))

    def _disk(self, element: ElementTree.Element, files: dict[str, ElementTree.Element]) -> Disk:
        id, reference = _attribute(element, "diskId"), _attribute(element, "fileRef")
        text = _attribute(element, "capacity")
        if reference and reference not in files:
            raise ImageError(f"{self.path}: disk {id} is in file {reference}, which is not declared")
        name = _attribute(files[reference], "href") if reference else ""
        if name and (_attribute(files[reference], "chunkSize") or _attribute(files[reference], "compression") not in ("", "identity")):
            raise ImageError(f"{self.path}: {name} is compressed or in pieces: unpack it first")
        if ":" in name or name.startswith("/") or ".." in name.split("/"):
            raise ImageError(f"{self.path}: disk {id} is in {name}, which is not beside the descriptor")
        capacity = int(text) * _units(_attribute(element, "capacityAllocationUnits")) if text.isdecimal() and len(text) < 20 else 0
        if capacity > LARGEST:
            raise ImageError(f"{self.path}: disk {id} has {capacity} bytes, which cannot be")
        url = _attribute(element, "format").lower()
        words = {"vmdk": "vmdk", "vhd": "vpc", "qcow2": "qcow2", "qcow": "qcow2", "vdi": "vdi", "raw": "raw"}
        format = next((kind for word, kind in words.items() if word in url and kind in FORMATS), None)
        place = None
        if name and self._members is not None:
            if name not in self._members:
                raise ImageError(f"{self.path}: disk {id} is missing: {name}")
            place = self._members[name]
        return Disk(id, capacity, name, format, place)

    def _system(self, element: ElementTree.Element) -> System:
        found = System(_attribute(element, "id"))
        found.name = next((each.text or found.name for each in element if _tag(each) == "Name"), found.name)
        for section in _all(element, "OperatingSystemSection"):
            found.system = next((each.text or "" for each in section if _tag(each) == "Description"), "")
        for item in (*_all(element, "Item"), *_all(element, "EthernetPortItem")):
            said = {_tag(each): (each.text or "").strip() for each in item}
            kind, text = said.get("ResourceType"), said.get("VirtualQuantity", "")
            quantity = int(text) if text.isdecimal() and len(text) < 20 else None
            if kind == PROCESSOR and quantity is not None:
                found.processors = (found.processors or 0) + quantity
            elif kind == MEMORY and quantity is not None:
                found.memory = (found.memory or 0) + quantity * _units(said.get("AllocationUnits", "byte * 2^20"))
            elif kind == NETWORK:
                found.networks.append((said.get("Connection", ""), said.get("ResourceSubType", "")))
        return found

    def _manifest(self, file: Node, name: str) -> None:
        """Digests of the disks' files, from the .mf of the descriptor's name."""
        other = name[:-4] + ".mf"
        if self._members is not None:
            if other not in self._members:
                return
            text = self._read(file, other)
        else:
            path = beside(self.path, other)
            if not os.path.isfile(path):
                return
            with open_protocol(path) as manifest:
                text = _bounded(manifest, 0, manifest.size, path)
        for algorithm, named, digest in _LINE.findall(text.decode("utf-8", "replace")):
            for disk in self.disks:
                if disk.file == named:
                    disk.digest = (algorithm.lower(), digest.lower())


class _Tree(ElementTree.TreeBuilder):
    """Declarations of entities, which grow without bound, have no place in a descriptor."""

    def doctype(self, name: str, *_: object) -> None:
        raise ValueError("it declares a document type")


class _Headers(io.RawIOBase):
    """The tar file for `tarfile`, which reads nothing large from it."""

    def __init__(self, file: Node) -> None:
        self.file, self.at = file, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.file.size)[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LONGEST:
            raise tarfile.ReadError("a header is too long")
        data = self.file.read(self.at, max(0, min(size, self.file.size - self.at)))
        self.at += len(data)
        return data


def _members(file: Node) -> dict[str, tuple[int, int]]:
    """The plain files of a tar file: (offset, bytes) by name."""
    found: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:
            for number, member in enumerate(archive):
                if number >= MOST:
                    raise ImageError(f"{file.filename}: there are more than {MOST} files in it")
                if member.isreg() and not member.issparse():
                    if member.size < 0 or member.offset_data + member.size > file.size:
                        raise ImageError(f"{file.filename}: {member.name} is cut off")
                    found.setdefault(member.name.removeprefix("./"), (member.offset_data, member.size))
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise ImageError(f"{file.filename}: the tar file is damaged: {error}") from None
    return found


def _bounded(file: Node, offset: int, size: int, what: str) -> bytes:
    if size > LONGEST:
        raise ImageError(f"{what} has {size} bytes, which is too much for a descriptor")
    return file.read(offset, size)


def _tag(element: ElementTree.Element) -> str:
    """A tag without its namespace, which differs between the editions of OVF."""
    return element.tag.rpartition("}")[2]


def _all(element: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    return (each for each in element.iter() if _tag(each) == tag)


def _attribute(element: ElementTree.Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _units(text: str) -> int:
    """Bytes of a unit such as `byte * 2^20`, or of what older writers say: MegaBytes, GB."""
    said = "".join(text.lower().split())
    if match := re.fullmatch(r"byte(?:\*(\d{1,4})(?:\^(\d{1,2}))?)?", said):
        base, power = match.groups()
        return int(base) ** int(power or 1) if base else 1
    letter = said[:1]
    return 1 << 10 * "bkmgt".index(letter) if letter and letter in "bkmgt" else 1
