"""qcow: QEMU's first copy-on-write format (version 1): two levels of tables of 64-bit big-endian offsets, clusters perhaps deflated.

The header is followed by the backing file's name and the L1 table. In an entry for a compressed cluster bit 63 is set, the `cluster_bits`
bits below are its length, and the rest its place, at any byte. Encrypted images can be read.
"""

from __future__ import annotations

import struct

from exuvia.disk.blocks import CACHED, PAGE, BlockTable
from exuvia.disk.clusters import Room, Writable
from exuvia.disk.format import Opener
from exuvia.disk.node import Extent, ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.pages import Pages
from exuvia.disk.structure import Structure, at
from exuvia.disk.vector import Buffer
from exuvia.support.errors import UserError
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from exuvia.disk.ciphers import SectorCipher
    from exuvia.support import deflate
else:
    deflate = Later("exuvia.support.deflate")

MAGIC = b"QFI\xfb"
COMPRESSED = 1 << 63
NO_CIPHER, AES = 0, 1
SECTOR = 512
LONGEST_NAME = 1023
MOST = 64 << 20  # bytes of room that are given at once
UNPACKED = 64  # clusters that are kept


class Header(Structure, order=">"):
    """QCowHeader."""

    magic: bytes = at("4s", MAGIC)
    version: int = at("I", 1)
    backing_file_offset: int = at("Q")
    backing_file_size: int = at("I")
    mtime: int = at("I")
    size: int = at("Q")
    cluster_bits: int = at("B")
    l2_bits: int = at("B")
    padding: int = at("H")
    crypt_method: int = at("I")
    l1_table_offset: int = at("Q")


class Qcow(Writable):
    """Version 1 images."""

    name = "qcow"
    suffixes = (".qcow",)
    OPTIONS = (
        Option("encrypt.format", ("aes",), None, "the image is encrypted"),
        Option("encrypt.key-secret", str, None, "ID of the secret that provides the AES encryption key"),
    )
    CREATE = (
        Option("backing_file", str, None, "File name of a base image"),
        Option("backing_fmt", str, None, "Format of the backing image"),
        Option("encryption", bool, None, "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"),
        Option("encrypt.format", str, None, "Encrypt the image, format choices: 'aes'"),
        Option("encrypt.key-secret", str, None, "ID of the secret that provides the AES encryption key"),
    )

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 100 if head[:8] == MAGIC + b"\0\0\0\1" else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        size += -size % SECTOR
        if not size:
            raise UserError(f"{file.filename}: Image size is too small, cannot be zero length")
        if options["encryption"] or options["encrypt.format"]:
            raise Unsupported(f"{file.filename}: encrypted qcow images can only be read (luks images can be made)")
        name = (options["backing_file"] or "").encode("utf-8", "surrogateescape")
        if len(name) > LONGEST_NAME:
            raise UserError(f"{file.filename}: Backing file name too long")
        header = Header(size=size, cluster_bits=9 if name else 12, l2_bits=12 if name else 9)
        if name:
            header.backing_file_offset, header.backing_file_size = Header.SIZE, len(name)
        header.l1_table_offset = Header.SIZE + len(name) + -len(name) % 8
        entries = -(-size >> header.cluster_bits + header.l2_bits)
        file.resize(header.l1_table_offset + entries * 8 + -(entries * 8) % SECTOR)
        file.write(0, header.pack() + name)

    def open(self) -> None:
        header = self.header = Header.unpack(self.file.read(0, Header.SIZE))
        self._believe(header)
        self.size, self.cluster = header.size - header.size % SECTOR, 1 << header.cluster_bits
        self.entries = 1 << header.l2_bits
        self.reach = self.entries * self.cluster  # bytes of the disk under one L2 table
        self.first = header.l1_table_offset + -(-self.size // self.reach) * 8  # nothing else lies before this
        if self.first > self.file.size:
            raise ImageError(f"{self.filename}: the L1 table ends at byte {self.first}, the file at {self.file.size}")
        if header.backing_file_size:
            if header.backing_file_size > LONGEST_NAME:
                raise ImageError(f"{self.filename}: Backing file name too long")
            self.backing_file = self.file.read(header.backing_file_offset, header.backing_file_size).decode("utf-8", "surrogateescape")
        self.l1 = BlockTable(self.file, header.l1_table_offset, -(-self.size // self.reach), ">Q")
        self.page = min(PAGE, self.entries * 8)
        self.l2 = Pages(self.file, self.page, CACHED)
        self.unpacked: dict[int, bytes] = {}
        self.encrypted = header.crypt_method == AES
        self.cipher: SectorCipher | None = None
        if self.encrypted and (self.writable or self.options.get("encrypt.key-secret") is not None):
            self.unlock()

    def _believe(self, header: Header) -> None:
        """Raise ImageError for a header that cannot be."""
        wrong = ""
        if header.magic != MAGIC:
            wrong = "Image not in qcow format"
        elif header.version != 1:
            wrong = f"qcow (v1) does not support qcow version {header.version}\nTry the 'qcow2' driver instead."
        elif header.size <= 1:
            wrong = "Image size is too small (must be at least 2 bytes)"
        elif not 9 <= header.cluster_bits <= 16:
            wrong = "Cluster size must be between 512 and 64k"
        elif not 6 <= header.l2_bits <= 13:
            wrong = "L2 table size must be between 512 and 64k"
        elif header.crypt_method not in (NO_CIPHER, AES):
            wrong = "invalid encryption method in qcow header"
        elif header.size >> 63:
            wrong = "Image too large"
        if wrong:
            raise ImageError(f"{self.filename}: {wrong}")

    def unlock(self) -> None:
        if self.encrypted and self.cipher is None:
            self.cipher = self._made()

    def _made(self) -> SectorCipher:
        """The cipher of the secret. Raises UserError where there is none."""
        from exuvia.disk.ciphers import SectorCipher
        from exuvia.disk.objects import secret

        name = self.options.get("encrypt.key-secret")
        if name is None:
            raise UserError(f"{self.filename}: Parameter 'encrypt.key-secret' is required for cipher")
        if self.writable:
            raise Unsupported(f"{self.filename}: encrypted qcow images can only be read")
        return SectorCipher("aes-128", "cbc", "plain64", secret(name)[:16].ljust(16, b"\0"))

    def _table(self, offset: int) -> int:
        """Where the L2 table for a byte of the disk lies, 0 for nowhere. Raises ImageError where that cannot be."""
        table = self.l1[offset // self.reach]
        if table and not self.first <= table <= self.file.size - self.entries * 8:
            raise ImageError(f"{self.filename}: L1 entry {offset // self.reach} points to {table:#x}, where no table can be")
        return table

    def _entry(self, table: int, index: int) -> tuple[bytearray, int, int]:
        """The page that holds an entry, the entry's place in it, and the page's own place."""
        page, inside = divmod(index * 8, self.page)
        return self.l2.page(table + page * self.page), inside, table + page * self.page

    def lookup(self, offset: int, length: int) -> Extent:
        table = self._table(offset)
        if not table:
            tables = self.l1.run(offset // self.reach, (offset + length - 1) // self.reach, 0)
            return Extent(Kind.ABSENT, min(length, tables * self.reach - offset % self.reach))
        length = min(length, self.reach - offset % self.reach)
        first, inside = divmod(offset % self.reach, self.cluster)
        page, at, _ = self._entry(table, first)
        values = struct.unpack_from(f">{min(-(-(inside + length) // self.cluster), (self.page - at) // 8)}Q", page, at)
        value = expected = values[0]
        if value & COMPRESSED:
            return Extent(Kind.COMPRESSED, min(length, self.cluster - inside))
        step, run = self.cluster if value else 0, 0
        for each in values:
            if each != expected:
                break
            run, expected = run + 1, expected + step
        length = min(length, run * self.cluster - inside)
        if not value:
            return Extent(Kind.ABSENT, length)
        if value < self.first or value + (run - 1) * self.cluster >= self.file.size:
            raise ImageError(f"{self.filename}: the cluster at byte {offset - inside} of the disk points to {value:#x}, outside the image")
        if self.encrypted:
            return Extent(Kind.COMPRESSED, min(length, self.cluster - inside))
        return Extent(Kind.DATA, length, value + inside, self.file)

    def unpack(self, offset: int, length: int) -> bytes:
        """A compressed cluster is inflated, one of an encrypted image decrypted; the last ones are kept."""
        inside = offset % self.cluster
        with self.lock:
            page, at, _ = self._entry(self._table(offset), offset % self.reach // self.cluster)
            value = int.from_bytes(page[at : at + 8], "big")
            data = self.unpacked.get(value)
        if data is None:
            data = self._inflate(value, offset) if value & COMPRESSED else self._decrypt(value, offset - inside)
            with self.lock:
                if len(self.unpacked) >= UNPACKED:
                    self.unpacked.clear()
                self.unpacked[value] = data
        return data[inside : inside + length]

    def _inflate(self, entry: int, offset: int) -> bytes:
        bits = 63 - self.header.cluster_bits
        place, length = entry & (1 << bits) - 1, (entry & ~COMPRESSED) >> bits
        try:
            data = deflate.unpack(self.file.read(place, length), self.cluster, deflate.RAW)
        except ValueError:
            data = b""
        if len(data) < self.cluster:
            raise ImageError(f"{self.filename}: the compressed cluster for byte {offset} of the disk is damaged")
        return data

    def _decrypt(self, host: int, offset: int) -> bytes:
        cipher = self.cipher or self._made()
        return cipher.decrypt(offset // SECTOR, self.file.read(host, self.cluster))

    def _grow(self, length: int) -> int:
        """New clusters at the end of the file, all zeros."""
        end = self.file.size
        end += -end % self.cluster
        self.file.resize(end + length)
        return end

    def place(self, offset: int, length: int) -> Room:
        length = min(length, self.reach - offset % self.reach, MOST)
        return Room(self._grow(length), length, True, self.file)

    def link(self, offset: int, room: Room) -> None:
        self._set(offset, [room.host + at for at in range(0, room.length, self.cluster)])

    def _set(self, offset: int, values: list[int]) -> None:
        """Entries from the disk's byte `offset` on, under one L2 table, which is made where there is none."""
        table = self._table(offset)
        if not table:
            table = self._grow(self.entries * 8)
            self.l1.set(offset // self.reach, table, 0, 1)
            self.l1.pages.after(self.l2)
        index = offset % self.reach // self.cluster
        self.l2.after_data()
        self.l1.pages.after_data()
        while values:
            page, inside, place = self._entry(table, index)
            part = min(len(values), (self.page - inside) // 8)
            struct.pack_into(f">{part}Q", page, inside, *values[:part])
            self.l2.dirty(place)
            index, values = index + part, values[part:]

    def write_compressed(self, offset: int, data: Buffer) -> None:
        """A unit is a cluster. What does not shrink is written as it is."""
        content = bytes(data).ljust(self.cluster, b"\0")
        packed = deflate.packer(raw=True)(content)
        if offset % self.cluster or len(data) > self.cluster or len(packed) >= self.cluster:
            self.write(offset, data)
            return
        with self.placing, self.lock:
            place = self.file.size
            if place >> 63 - self.header.cluster_bits:
                raise ImageError(f"{self.filename}: the image has grown to where compressed clusters cannot lie")
            self.file.write(place, packed)
            self._set(offset, [COMPRESSED | len(packed) << 63 - self.header.cluster_bits | place])

    def empty(self) -> None:
        with self.placing, self.lock:
            self.l2.forget()
            for index in range(self.l1.count):
                self.l1.set(index, 0, 0, 1)
            self.flush()
            self.unpacked.clear()
            self.file.resize(self.first + -self.first % SECTOR)

    def flush(self) -> None:
        with self.lock:
            self.l2.write()
            self.l1.pages.write()
        self.file.flush()
