"""Encrypted clusters (qcow2.txt, "Data encryption"): LUKS by place in the file, the old AES by place on the disk. Tables are not encrypted.

`Encrypted` stands between the format and its file: extents of an encrypted image lie in it.
"""

from __future__ import annotations

import struct
from _thread import allocate_lock

from exuvia.disk.formats.luks import slots
from exuvia.disk.formats.qcow2.header import ENCRYPTION, LUKS, Header
from exuvia.disk.node import CHUNK, Extent, ImageError, Kind, Node
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Iterator
    from typing import Any

    from exuvia.disk.ciphers import SectorCipher
    from exuvia.disk.formats.luks.version1 import Version1

SECTOR = 512
AES_KEY = 16  # bytes of the passphrase
AMEND = tuple(Option(f"encrypt.{each.name}", each.type, None, each.text) for each in slots.OPTIONS)


class Key:
    """What an image's clusters are encrypted with; the secret is asked for when the first is read or written."""

    def __init__(self, header: Header, options: dict[str, Any]) -> None:
        self.header, self.options = header, options
        self.luks = header.fields.crypt_method == LUKS
        self.volume: Version1 | None = self._volume() if self.luks else None
        wanted = options.get("encrypt.format")
        if wanted is not None and wanted != self.format:
            raise header.error(f"Header reported '{self.format}' encryption format but options specify '{wanted}'")
        self._cipher: SectorCipher | None = None
        self._lock = allocate_lock()
        if options.get("encrypt.key-secret") is not None:
            self.cipher()

    @property
    def format(self) -> str:
        """`luks` or `aes`."""
        return "luks" if self.luks else "aes"

    def window(self) -> Node:
        """The LUKS header as a file of its own."""
        from exuvia.disk.formats.raw import Raw

        said = self.header.extensions.get(ENCRYPTION, b"")
        if len(said) != 16:
            raise self.header.error("CRYPTO header extension missing or of another size than 16 bytes")
        offset, length = struct.unpack(">QQ", said)
        if offset % (1 << self.header.fields.cluster_bits) or offset + length > self.header.file.size:
            raise self.header.error(f"Encryption header offset '{offset}' is not a multiple of cluster size, or outside of the file")
        return Raw(self.header.file, offset=offset, size=length)

    def _volume(self) -> Version1:
        from exuvia.disk.formats.luks.version1 import MAGIC, Version1

        window = self.window()
        if window.read(0, 8) != MAGIC + b"\0\1":
            raise self.header.error("Volume is not in LUKS format, version 1")
        return Version1.read(window)

    def cipher(self) -> SectorCipher:
        """Raises UserError without the secret, or with a wrong one."""
        from exuvia.disk.ciphers import SectorCipher
        from exuvia.disk.objects import secret

        with self._lock:
            if self._cipher is None:
                name = self.options.get("encrypt.key-secret")
                if name is None:
                    raise self.header.error("Parameter 'encrypt.key-secret' is required for cipher")
                if self.volume is None:
                    self._cipher = SectorCipher("aes-128", "cbc", "plain64", secret(name)[:AES_KEY].ljust(AES_KEY, b"\0"))
                    return self._cipher
                try:
                    key = self.volume.unlock(self.window(), secret(name))
                    if key is None:
                        raise ImageError("Invalid password, cannot unlock any keyslot")
                    self._cipher = self.volume.cipher(key)
                except UserError as error:
                    raise self.header.error(str(error)) from None
            return self._cipher

    def amend(self, options: dict[str, Any], force: bool) -> None:
        """Change passphrases of a LUKS header. Raises UserError."""
        if self.volume is None:
            raise UserError("Only LUKS encryption options can be amended")
        slots.amend(self.volume, self.window(), self.options["encrypt.key-secret"], options, force)

    def info(self) -> dict[str, Any]:
        """QMP's ImageInfoSpecificQCow2Encryption."""
        return {"format": self.format, **(self.volume.info() if self.volume is not None else {})}


class Encrypted(Node):
    """`file` read and written through a cipher; `shift` is what is added to an offset to have the one that the cipher goes by."""

    name = "encrypted"
    writable = True

    def __init__(self, file: Node, key: Key, shift: int = 0, lock: LockType | None = None) -> None:
        self.file, self.key, self.shift, self.filename = file, key, shift, file.filename
        self.lock = lock or allocate_lock()  # parts of sectors are written one at a time

    def at(self, shift: int) -> Encrypted:
        """The same with another shift."""
        return Encrypted(self.file, self.key, shift, self.lock)

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.file.size

    def readv(self, offset: int, into: Vector) -> None:
        cipher, at = self.key.cipher(), 0
        while at < into.length:
            inside = (offset + at) % SECTOR
            count = min(into.length - at, CHUNK - inside)
            start, length = offset + at - inside, inside + count
            plain = cipher.decrypt((start + self.shift) // SECTOR, self.file.read(start, length + -length % SECTOR))
            into.slice(at, count).scatter(memoryview(plain)[inside : inside + count])
            at += count

    def writev(self, offset: int, data: Vector) -> None:
        if offset % SECTOR or data.length % SECTOR:
            with self.lock:
                self._write(offset, data)
        else:
            self._write(offset, data)

    def _write(self, offset: int, data: Vector) -> None:
        cipher, at = self.key.cipher(), 0
        while at < data.length:
            inside = (offset + at) % SECTOR
            count = min(data.length - at, CHUNK - inside)
            start, end = offset + at - inside, offset + at + count
            plain = data.slice(at, count).gather()
            if inside:
                plain = self.read(start, inside) + plain
            if end % SECTOR:
                plain += self.read(end, SECTOR - end % SECTOR)
            self.file.write(start, cipher.encrypt((start + self.shift) // SECTOR, plain))
            at += count

    def resize(self, size: int, preallocation: str = "off") -> None:
        self.file.resize(size, preallocation)

    def flush(self) -> None:
        self.file.flush()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Holes of the file are no zeros here."""
        yield Extent(Kind.DATA, length, offset, self)


def luks_header(options: dict[str, Any]) -> tuple[bytes, int]:
    """A new LUKS header with key material, and its whole length in bytes."""
    from exuvia.disk.formats.luks import version1
    from exuvia.disk.formats.luks.luks import ALG, HASH, MILLISECONDS, MODE, RULE
    from exuvia.disk.objects import secret

    rule = options.get("encrypt.ivgen-alg") or RULE
    if rule == "essiv":
        rule += f":{options.get('encrypt.ivgen-hash-alg') or HASH}"
    mode = options.get("encrypt.cipher-mode") or MODE
    return version1.create(
        secret(options["encrypt.key-secret"]),
        options.get("encrypt.cipher-alg") or ALG,
        mode,
        None if mode == "ecb" else rule,
        options.get("encrypt.hash-alg") or HASH,
        options.get("encrypt.iter-time") or MILLISECONDS,
    )


def luks_room(options: dict[str, Any]) -> int:
    """Bytes that a LUKS header with these options takes."""
    from exuvia.disk.ciphers import KEY_BYTES
    from exuvia.disk.formats.luks import version1
    from exuvia.disk.formats.luks.luks import ALG, MODE

    key = KEY_BYTES.get(options.get("encrypt.cipher-alg") or ALG, 0) * (2 if (options.get("encrypt.cipher-mode") or MODE) == "xts" else 1)
    return (version1.ALIGN + version1.SLOTS * version1.room(key)) * SECTOR
