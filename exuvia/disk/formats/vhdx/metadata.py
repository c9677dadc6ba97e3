"""The metadata region ([MS-VHDX] 2.6): a table of items, and the items that say what kind of disk it is."""

from exuvia.disk.formats.vhdx.header import MIB, Region, guid
from exuvia.disk.node import ImageError, Node
from exuvia.disk.structure import Structure, at
from exuvia.support.later import Later
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import uuid
else:
    uuid = Later("uuid")

TABLE = 64 << 10
MOST_ITEMS, LARGEST_ITEM = 1023, 1 << 20
IS_VIRTUAL, IS_REQUIRED = 2, 4
FIXED, HAS_PARENT = 1, 2  # LeaveBlockAllocated and HasParent of the file parameters
MOST_BYTES = 64 << 40
SMALLEST_BLOCK, LARGEST_BLOCK = MIB, 256 * MIB
FILE_PARAMETERS, DISK_SIZE, PAGE_83, LOGICAL, PHYSICAL, PARENT = (
    guid(each)
    for each in (
        "caa16737-fa36-4d43-b3b6-33f0aa44e76b",
        "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
        "beca12ab-b2e6-4523-93ef-c309e000c746",
        "8141bf1d-a96f-4709-ba47-f233a8faab5f",
        "cda348c7-445d-4471-9cc9-e9885251c556",
        "a8d35f2d-b30b-454d-abf7-d3d84834ab0c",
    )
)
PARENT_PATHS = ("relative_path", "volume_path", "absolute_win32_path")


class Item(Structure, order="<"):
    """2.6.1.2: one entry of the table."""

    guid: bytes = at("16s")
    offset: int = at("I")
    length: int = at("I")
    flags: int = at("I")
    reserved: int = at("I")


class Metadata(Record):
    """What the items say; sizes in bytes."""

    block_size: int
    disk_size: int
    sector: int = 512
    fixed: bool = False
    parent: str | None = None

    def pack(self) -> bytes:
        """A new image's region, with both sector sizes 512."""
        items = (
            (FILE_PARAMETERS, IS_REQUIRED, self.block_size.to_bytes(4, "little") + (FIXED if self.fixed else 0).to_bytes(4, "little")),
            (DISK_SIZE, IS_REQUIRED | IS_VIRTUAL, self.disk_size.to_bytes(8, "little")),
            (PAGE_83, IS_REQUIRED | IS_VIRTUAL, uuid.uuid4().bytes_le),
            (LOGICAL, IS_REQUIRED | IS_VIRTUAL, (512).to_bytes(4, "little")),
            (PHYSICAL, IS_REQUIRED | IS_VIRTUAL, (512).to_bytes(4, "little")),
        )
        table = bytearray(b"metadata" + bytes(2) + len(items).to_bytes(2, "little") + bytes(20))
        content = b""
        for kind, flags, value in items:
            table += Item(kind, TABLE + len(content), len(value), flags, 0).pack()
            content += value
        return bytes(table.ljust(TABLE, b"\0")) + content


def read(file: Node, region: Region) -> Metadata:
    """Raises ImageError for what is missing, unknown and required, or out of bounds."""
    name = file.filename
    table = file.read(region.offset, TABLE)
    count = int.from_bytes(table[10:12], "little")
    if table[:8] != b"metadata" or count > MOST_ITEMS:
        raise ImageError(f"{name}: the metadata table is damaged")
    found: dict[bytes, bytes] = {}
    for index in range(count):
        item = Item.unpack(table, 32 + index * Item.SIZE)
        known = item.guid in (FILE_PARAMETERS, DISK_SIZE, PAGE_83, LOGICAL, PHYSICAL, PARENT)
        if not known and item.flags & IS_REQUIRED:
            raise ImageError(f"{name}: needs metadata of unknown kind {uuid.UUID(bytes_le=item.guid)}")
        if not known:
            continue
        if item.length > LARGEST_ITEM or item.offset < TABLE or item.offset + item.length > region.length or item.guid in found:
            raise ImageError(f"{name}: metadata item {index} is too large, out of its region, or there twice")
        found[item.guid] = file.read(region.offset + item.offset, item.length)

    def number(guid: bytes, what: str, at: int, size: int) -> int:
        if len(found.get(guid, b"")) < at + size:
            raise ImageError(f"{name}: the metadata lacks the {what}")
        return int.from_bytes(found[guid][at : at + size], "little")

    flags = number(FILE_PARAMETERS, "file parameters", 4, 4)
    result = Metadata(
        number(FILE_PARAMETERS, "file parameters", 0, 4),
        number(DISK_SIZE, "disk's size", 0, 8),
        number(LOGICAL, "logical sector size", 0, 4),
        bool(flags & FIXED) and not flags & HAS_PARENT,
    )
    if not SMALLEST_BLOCK <= result.block_size <= LARGEST_BLOCK or result.block_size & (result.block_size - 1):
        raise ImageError(f"{name}: the block size {result.block_size} is no power of two from 1 MiB to 256 MiB")
    if result.sector not in (512, 4096) or result.disk_size % result.sector or result.disk_size > MOST_BYTES:
        raise ImageError(f"{name}: the disk's size {result.disk_size} with sectors of {result.sector} bytes cannot be")
    if flags & HAS_PARENT:
        result.parent = _parent(name, found.get(PARENT, b""))
    return result


def _parent(name: str, locator: bytes) -> str:
    """2.6.2.6: the parent's path, relative where there is one."""
    count = int.from_bytes(locator[18:20], "little")
    said = {}
    for index in range(min(count, 64)):
        entry = locator[20 + index * 12 : 32 + index * 12]
        places = int.from_bytes(entry[:4], "little"), int.from_bytes(entry[4:8], "little")
        lengths = int.from_bytes(entry[8:10], "little"), int.from_bytes(entry[10:12], "little")
        key, value = (locator[place : place + length].decode("utf-16-le", "replace") for place, length in zip(places, lengths))
        said[key] = value
    for key in PARENT_PATHS:
        path = said.get(key, "").replace("\\", "/").removeprefix("./")
        if path and "\0" not in path:
            return path
    raise ImageError(f"{name}: a differencing image that does not name its parent")
