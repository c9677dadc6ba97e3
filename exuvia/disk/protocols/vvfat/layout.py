"""Where things are on a FAT disk (Microsoft, FAT: General Overview of On-Disk Format 1.03, "Boot Sector and BPB"), its first sectors."""

import struct
from dataclasses import dataclass

SECTOR = 512
TRACK, HEADS = 63, 16  # of a disk, as QEMU's is; a floppy has 36 and 2
FLOPPY_TRACK, FLOPPY_HEADS, FLOPPY_CYLINDERS = 36, 2, 80
ROOT_ENTRIES = 512  # of FAT12 and FAT16
SERIAL = 0xFABE1AFD
MOST_SECTORS = (1 << 32) - 1
_TYPE = {12: 0x01, 16: 0x06, 32: 0x0C}  # of a partition


@dataclass
class Layout:
    """A disk of `total` sectors whose file system begins at sector `hidden`; `spc` sectors make a cluster."""

    kind: int
    floppy: bool
    total: int
    hidden: int
    spc: int

    def __post_init__(self) -> None:
        self.reserved = 32 if self.kind == 32 else 1
        self.root = 0 if self.kind == 32 else ROOT_ENTRIES * 32 // SECTOR
        self.sectors = self.total - self.hidden
        self.fat = 1
        while (wanted := -(-(self.clusters + 2) * self.kind // (8 * SECTOR))) > self.fat:
            self.fat = max(self.fat + 1, wanted * 63 // 64)

    @property
    def clusters(self) -> int:
        """Clusters of data."""
        return (self.sectors - self.reserved - 2 * self.fat - self.root) // self.spc

    @property
    def fats(self) -> tuple[int, int]:
        """Byte offsets of the two tables."""
        first = (self.hidden + self.reserved) * SECTOR
        return first, first + self.fat * SECTOR

    @property
    def root_at(self) -> int:
        """Byte offset of the root folder of FAT12 and FAT16."""
        return (self.hidden + self.reserved + 2 * self.fat) * SECTOR

    def at(self, cluster: int) -> int:
        """Byte offset of a cluster, the first of which is 2."""
        return self.root_at + (self.root + (cluster - 2) * self.spc) * SECTOR

    def table(self, runs: list[tuple[int, int]]) -> bytes:
        """A file allocation table in which each of `runs` (first cluster, number) is a file's chain."""
        media = 0xF0 if self.floppy else 0xF8
        last = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}[self.kind]
        chain = [last - 0xFF | media, last]
        for first, count in runs:
            chain += range(first + 1, first + count)
            chain.append(last)
        if self.kind == 12:
            chain += [0] * (len(chain) % 2)
            data = b"".join((low | high << 12).to_bytes(3, "little") for low, high in zip(chain[::2], chain[1::2]))
        else:
            data = struct.pack(f"<{len(chain)}{'H' if self.kind == 16 else 'I'}", *chain)
        return data.ljust(self.fat * SECTOR, b"\0")

    def boot(self, label: bytes, used: int) -> list[tuple[int, bytes]]:
        """The sectors before the tables, by byte offset: partition table, boot sector, what FAT32 knows of free room."""
        heads, track = (FLOPPY_HEADS, FLOPPY_TRACK) if self.floppy else (HEADS, TRACK)
        short = self.sectors if self.sectors < 0x10000 else 0
        sector = struct.pack(
            "<3s8sHBHBHHBHHHII", b"\xeb\x3e\x90" if self.kind != 32 else b"\xeb\x58\x90", b"MSWIN4.1", SECTOR, self.spc, self.reserved, 2,
            0 if self.kind == 32 else ROOT_ENTRIES, short, 0xF0 if self.floppy else 0xF8, 0 if self.kind == 32 else self.fat, track, heads,
            self.hidden, 0 if short else self.sectors,
        )  # fmt: skip
        if self.kind == 32:
            sector += struct.pack("<IHHIHH12x", self.fat, 0, 0, 2, 1, 6)
        sector += struct.pack("<BBBI11s8s", 0 if self.floppy else 0x80, 0, 0x29, SERIAL, label, b"FAT%-5d" % self.kind)
        sector = sector.ljust(510, b"\0") + b"\x55\xaa"
        start = self.hidden * SECTOR
        out = [(start, sector)]
        if self.kind == 32:
            free = struct.pack("<I480xIII12xI", 0x41615252, 0x61417272, self.clusters - used, 2 + used, 0xAA550000)
            out += [(start + SECTOR, free), (start + 6 * SECTOR, sector), (start + 7 * SECTOR, free)]
        if self.hidden:
            entry = struct.pack(
                "<B3sB3sII", 0x80, _chs(self.hidden), _TYPE[self.kind], _chs(self.total - 1), self.hidden, self.sectors
            )  # fmt: skip
            out.insert(0, (0, (bytes(440) + struct.pack("<IH", SERIAL, 0) + entry).ljust(510, b"\0") + b"\x55\xaa"))
        return out


def _chs(sector: int) -> bytes:
    """A sector's cylinder, head and sector as a partition table has them, the last one that can be said for those beyond."""
    track, sector = divmod(sector, TRACK)
    cylinder, head = divmod(track, HEADS)
    if cylinder > 1023:
        return b"\xff\xff\xff"
    return bytes([head, sector + 1 | cylinder >> 8 << 6, cylinder & 0xFF])


def layout(kind: int, floppy: bool, need: int) -> Layout:
    """A disk as QEMU makes it; FAT32 becomes as large as `need` bytes of files and folders ask for."""
    if floppy:
        return Layout(kind, True, FLOPPY_TRACK * FLOPPY_HEADS * FLOPPY_CYLINDERS, 0, 2 if kind == 12 else 1)
    cylinder = TRACK * HEADS
    if kind != 32:
        return Layout(kind, False, (64 if kind == 12 else 1024) * cylinder, TRACK, 16)
    spc = next((spc for spc, gigabytes in ((8, 8), (16, 16), (32, 32)) if need < gigabytes << 30), 64)
    wanted = need + need // 128 + (8 << 20)  # tables, and some room
    return Layout(32, False, max(1024, -(-wanted // SECTOR // cylinder)) * cylinder, TRACK, spc)
