"""The header of LUKS 2 (On-Disk Format 1.1.1): a binary header, twice, each followed by the same JSON. Read only."""

from __future__ import annotations

import binascii

from exuvia.disk.ciphers import SectorCipher
from exuvia.disk.formats.luks import keys
from exuvia.disk.node import ImageError, Node, Unsupported
from exuvia.disk.structure import Structure, at
from exuvia.support.later import Later
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import base64
    import hashlib
    import json
    from typing import Any
else:
    base64, hashlib, json = Later("base64"), Later("hashlib"), Later("json")

MAGICS = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")
BINARY, LARGEST = 4096, 4 << 20
SECOND = tuple(0x4000 << shift for shift in range(9))  # where the second copy may begin
SECTORS = (512, 1024, 2048, 4096)


class Header(Structure, order=">"):
    """struct luks2_hdr_disk."""

    magic: bytes = at("6s")
    version: int = at("H")
    size: int = at("Q")
    sequence: int = at("Q")
    label: bytes = at("48s")
    checksum_alg: bytes = at("32s")
    salt: bytes = at("64s")
    uuid: bytes = at("40s")
    subsystem: bytes = at("48s")
    offset: int = at("Q")
    padding: bytes = at("184s")
    checksum: bytes = at("64s")


class Version2(Record):
    """What the JSON says of the only segment, and its key slots."""

    said: dict[str, Any]
    uuid: str
    name: str
    payload: int
    limit: int | None  # bytes of the segment; None: up to the file's end
    encryption: str
    sector: int
    tweak: int

    @classmethod
    def read(cls, file: Node) -> Version2:
        """Raises ImageError for a header that cannot be, Unsupported for one that needs more than this."""
        found = [each for each in (_copy(file, offset) for offset in (0, *SECOND)) if each is not None]
        if not found:
            raise ImageError(f"{file.filename}: no LUKS2 header is whole")
        header, said = max(found, key=lambda each: each[0].sequence)
        try:
            segments = said["segments"]
            if len(segments) != 1 or said["config"].get("requirements", {}).get("mandatory"):
                raise Unsupported(f"{file.filename}: a LUKS2 image that is being re-encrypted is not supported")
            (segment,) = segments.values()
            if segment["type"] != "crypt" or "integrity" in segment:
                raise Unsupported(f"{file.filename}: LUKS2 segments with integrity are not supported")
            size = None if segment["size"] == "dynamic" else int(segment["size"])
            made = cls(
                said,
                header.uuid.split(b"\0")[0].decode("ascii", "replace"),
                file.filename,
                int(segment["offset"]),
                size,
                str(segment["encryption"]),
                int(segment["sector_size"]),
                int(segment["iv_tweak"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ImageError(f"{file.filename}: the LUKS2 metadata is damaged: {type(error).__name__} {error}") from None
        if (
            made.sector not in SECTORS
            or not 0 < made.payload <= file.size
            or (size is not None and not 0 <= size <= file.size - made.payload)
        ):
            raise ImageError(f"{file.filename}: the LUKS2 segment lies outside the file")
        return made

    def length(self, size: int) -> int:
        """How long the encrypted disk is in a file of `size` bytes."""
        return size - self.payload if self.limit is None else self.limit

    def cipher(self, key: bytes) -> SectorCipher:
        """The cipher of the segment."""
        return _cipher(self.encryption, key, self.sector)

    def unlock(self, file: Node, passphrase: bytes) -> bytes | None:
        """The segment's key; None when the passphrase opens no slot."""
        try:
            for number, slot in sorted(self.said["keyslots"].items()):
                if slot["type"] != "luks2":
                    continue
                key = self._open_slot(file, slot, passphrase)
                if self._is_right(number, key):
                    return key
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error, OverflowError) as error:
            raise ImageError(f"{self.name}: a LUKS2 key slot is damaged: {type(error).__name__} {error}") from None
        return None

    def _open_slot(self, file: Node, slot: dict[str, Any], passphrase: bytes) -> bytes:
        area, af, size = slot["area"], slot["af"], int(slot["key_size"])
        offset, stripes, width = int(area["offset"]), int(af["stripes"]), int(area["key_size"])
        length = size * stripes
        if not 0 < size <= keys.LARGEST_KEY or not 0 < width <= keys.LARGEST_KEY or stripes != keys.STRIPES or offset + length > file.size:
            raise ValueError(f"{stripes} stripes of {size} bytes at {offset}")
        derived = _derive(slot["kdf"], passphrase, width)
        material = _cipher(area["encryption"], derived, 512).decrypt(0, file.read(offset, length + -length % 512))
        return keys.merge(material, size, stripes, str(af["hash"]))

    def _is_right(self, number: str, key: bytes) -> bool:
        for digest in self.said["digests"].values():
            if number in digest["keyslots"]:
                wanted = base64.b64decode(digest["digest"])
                salt, rounds = base64.b64decode(digest["salt"]), int(digest["iterations"])
                if keys.pbkdf2(str(digest["hash"]), key, salt, rounds, len(wanted)) == wanted:
                    return True
        return False

    def info(self) -> dict[str, Any]:
        """QEMU knows no LUKS2, so these names are ours."""
        return {"version": 2, "uuid": self.uuid, "encryption": self.encryption, "sector-size": self.sector, "payload-offset": self.payload}


def _copy(file: Node, offset: int) -> tuple[Header, dict[str, Any]] | None:
    """One copy of the header with its JSON, where it is whole."""
    data = file.read(offset, BINARY)
    header = Header.unpack(data)
    if header.magic != MAGICS[bool(offset)] or header.version != 2 or header.offset != offset:
        return None
    if not BINARY < header.size <= LARGEST or offset + header.size > file.size:
        return None
    data += file.read(offset + BINARY, header.size - BINARY)
    alg = header.checksum_alg.split(b"\0")[0].decode("ascii", "replace")
    try:
        made = hashlib.new(alg, data[:448] + bytes(64) + data[512:]).digest()
        said = json.loads(data[BINARY:].split(b"\0")[0])
    except (ValueError, TypeError, RecursionError):
        return None
    return (header, said) if header.checksum.startswith(made) and isinstance(said, dict) else None


def _cipher(specification: str, key: bytes, sector: int) -> SectorCipher:
    """The cipher that `aes-xts-plain64` and the like name."""
    name, mode, rule = (*specification.split("-", 2), "", "")[:3]
    return SectorCipher(f"{name}-{len(key) * 8 // (2 if mode == 'xts' else 1)}", mode, rule or None, key, sector)


def _derive(kdf: dict[str, Any], passphrase: bytes, length: int) -> bytes:
    """The key that decrypts a slot's material."""
    salt = base64.b64decode(kdf["salt"])
    if kdf["type"] == "pbkdf2":
        return keys.pbkdf2(str(kdf["hash"]), passphrase, salt, int(kdf["iterations"]), length)
    rounds, memory, lanes = int(kdf["time"]), int(kdf["memory"]), int(kdf["cpus"])
    if not 0 < rounds <= 100 or not 8 <= memory <= keys.MOST_MEMORY or not 0 < lanes <= 64:
        raise ValueError(f"Argon2 with {rounds} rounds, {memory} KiB and {lanes} lanes")
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.kdf import argon2
    except ImportError:
        raise Unsupported("LUKS2 with Argon2 needs the Python package cryptography, 44 or later (install exuvia[crypt])") from None
    maker = {"argon2id": "Argon2id", "argon2i": "Argon2i"}.get(str(kdf["type"]), "")
    if not hasattr(argon2, maker):
        raise Unsupported(f"the key derivation '{kdf['type']}' is not supported")
    try:
        made: bytes = getattr(argon2, maker)(salt=salt, length=length, iterations=rounds, lanes=lanes, memory_cost=memory).derive(
            passphrase
        )
    except UnsupportedAlgorithm:
        raise Unsupported(f"the key derivation '{kdf['type']}' needs a newer OpenSSL") from None
    return made
