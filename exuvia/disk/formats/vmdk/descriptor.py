"""The text that describes a VMDK (VMware, Virtual Disk Format 5.0, "The Descriptor File"): content IDs, extents, the disk data base."""

from exuvia.disk.node import ImageError, Node
from exuvia.support.later import Later
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
else:
    re = Later("re")

LONGEST = 1 << 20  # bytes; those that exist have less than a thousandth
NO_PARENT = 0xFFFFFFFF
SECTOR = 512
_SETTING = r"([A-Za-z][\w.]*)\s*=(.*)"
_EXTENT = r'(RW|RDONLY|NOACCESS)\s+(\d{1,19})\s+([A-Z0-9]+)(?:\s+"([^"\n\r]+)"(?:\s+(\d{1,19}))?)?'


class Line(Record):
    """An extent as its line says: `sectors` long, `offset` sectors into the file `filename` where that is flat."""

    access: str
    sectors: int
    kind: str
    filename: str
    offset: int


class Descriptor(Record):
    """What the text says. `place` and `room` are where in its file it stands and how many bytes it may have there."""

    text: str
    place: int = 0
    room: int | None = None
    cid: int = 0
    parent_cid: int = NO_PARENT
    create_type: str = ""
    parent: str | None = None
    extents: list[Line] = []

    def set_cid(self, file: Node, cid: int) -> None:
        """Write another content ID into the file; the text keeps its length wherever that can be."""
        self.cid = cid
        self.text = re.sub(r"(?m)^([ \t]*CID[ \t]*=[ \t]*)[0-9A-Fa-f]+", lambda found: f"{found[1]}{cid:08x}", self.text, count=1)
        data = self.text.encode("utf-8", "surrogateescape")
        if self.room is None:
            file.write(self.place, data)
        elif len(data) <= self.room:
            file.write(self.place, data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0"))


def parse(data: bytes, filename: str, place: int = 0, room: int | None = None) -> Descriptor:
    """The descriptor in `data`. Raises ImageError where it lacks what it must have."""
    text = data.split(b"\0")[0].decode("utf-8", "surrogateescape")
    found = Descriptor(text, place, room)
    settings: dict[str, str] = {}
    an_extent, a_setting = re.compile(_EXTENT).fullmatch, re.compile(_SETTING).fullmatch
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#"):
            continue
        if extent := an_extent(line):
            access, sectors, kind, name, offset = extent.groups()
            found.extents.append(Line(access, int(sectors), kind, name or "", int(offset or 0)))
        elif setting := a_setting(line):
            settings.setdefault(setting[1].lower(), setting[2].strip().strip('"'))
    try:
        found.cid = int(settings["cid"], 16)
        found.parent_cid = int(settings.get("parentcid", "ffffffff"), 16)
    except (KeyError, ValueError):
        raise ImageError(f"{filename}: invalid VMDK image descriptor: it has no CID") from None
    if max(found.cid, found.parent_cid) > NO_PARENT:
        raise ImageError(f"{filename}: invalid VMDK image descriptor: a CID has more than 32 bits")
    found.create_type = settings.get("createtype", "")
    if found.parent_cid != NO_PARENT:
        found.parent = settings.get("parentfilenamehint")
    return found


def looks_like(head: bytes) -> bool:
    """Whether a file begins as a descriptor: comments, then its version."""
    for line in head[:4096].split(b"\n"):
        line = line.strip()
        if line and not line.startswith(b"#"):
            name, _, value = line.partition(b"=")
            return name.rstrip() == b"version" and value.lstrip() in (b"1", b"2", b"3")
    return False


TEMPLATE = """\
# Disk DescriptorFile
version=1
CID={cid:08x}
parentCID={parent_cid:08x}
createType="{create_type}"
{parent}
# Extent description
{extents}
# The Disk Data Base
#DDB

ddb.virtualHWVersion = "{hwversion}"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "{heads}"
ddb.geometry.sectors = "63"
ddb.adapterType = "{adapter}"
ddb.toolsVersion = "{tools}"
"""
