"""luks: the format. Version 1 is created, read, written and resized as QEMU does; version 2 is read."""

from __future__ import annotations

from exuvia.disk.ciphers import KEY_BYTES, SectorCipher
from exuvia.disk.format import Format, Measure, Opener
from exuvia.disk.formats.luks import slots, version1
from exuvia.disk.formats.luks.version1 import MAGIC, Version1
from exuvia.disk.formats.luks.version2 import Version2
from exuvia.disk.node import CHUNK, ImageError, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ALG, MODE, RULE, HASH, MILLISECONDS = "aes-256", "xts", "plain64", "sha256", slots.MILLISECONDS


class Luks(Format):
    """Without a secret an image can be opened and described, but neither read nor written."""

    name = "luks"
    suffixes = (".luks",)
    encrypted = True
    OPTIONS = (Option("key-secret", str, None, "ID of the secret that provides the keyslot passphrase"),)
    CREATE = (
        Option("key-secret", str, None, "ID of the secret that provides the keyslot passphrase"),
        Option("cipher-alg", str, None, "Name of encryption cipher algorithm"),
        Option("cipher-mode", str, None, "Name of encryption cipher mode"),
        Option("ivgen-alg", str, None, "Name of IV generator algorithm"),
        Option("ivgen-hash-alg", str, None, "Name of IV generator hash algorithm"),
        Option("hash-alg", str, None, "Name of encryption hash algorithm"),
        Option("iter-time", int, None, "Time to spend in PBKDF in milliseconds"),
    )
    AMEND = slots.OPTIONS

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 100 if head.startswith((MAGIC + b"\0\1", MAGIC + b"\0\2")) else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        from exuvia.disk.objects import secret

        if options["key-secret"] is None:
            raise UserError(f"{file.filename}: Parameter 'key-secret' is required for cipher")
        rule = options["ivgen-alg"] or RULE
        if rule == "essiv":
            rule += f":{options['ivgen-hash-alg'] or HASH}"
        mode = options["cipher-mode"] or MODE
        milliseconds = options["iter-time"] or MILLISECONDS
        alg, hash_name = options["cipher-alg"] or ALG, options["hash-alg"] or HASH
        head, payload = version1.create(secret(options["key-secret"]), alg, mode, None if mode == "ecb" else rule, hash_name, milliseconds)
        file.resize(payload + size + -size % version1.SECTOR, options.get("preallocation") or "off")
        file.write(0, head)

    @classmethod
    def measure(cls, size: int, options: dict[str, Any], source: Node | None) -> Measure:
        alg, mode = options["cipher-alg"] or ALG, options["cipher-mode"] or MODE
        key = KEY_BYTES.get(alg, 0) * (2 if mode == "xts" else 1)
        needed = (version1.ALIGN + version1.SLOTS * version1.room(key)) * version1.SECTOR + size
        return Measure(needed, needed)

    def open(self) -> None:
        head = self.file.read(0, 8)
        if head[:6] != MAGIC or head[6:8] not in (b"\0\1", b"\0\2"):
            raise ImageError(f"{self.filename}: Volume is not in LUKS format")
        self.volume: Version1 | Version2 = Version1.read(self.file) if head[7] == 1 else Version2.read(self.file)
        if self.writable and head[7] == 2:
            raise Unsupported(f"{self.filename}: LUKS2 images can only be read")
        self.unit = self.volume.sector
        self.size = self.volume.length(self.file.size) // self.unit * self.unit
        self._cipher: SectorCipher | None = None
        if self.options.get("key-secret") is not None:
            self._unlock()

    def _unlock(self) -> SectorCipher:
        """The cipher, made from the secret when it is first needed. Raises UserError."""
        from exuvia.disk.objects import secret

        with self.lock:
            if self._cipher is None:
                name = self.options.get("key-secret")
                if name is None:
                    raise UserError(f"{self.filename}: Parameter 'key-secret' is required for cipher")
                try:
                    key = self.volume.unlock(self.file, secret(name))
                    if key is None:
                        raise ImageError("Invalid password, cannot unlock any keyslot")
                    self._cipher = self.volume.cipher(key)
                except UserError as error:
                    raise ImageError(f"{self.filename}: {error}") from None
            return self._cipher

    def unlock(self) -> None:
        self._unlock()

    def amend(self, options: dict[str, Any], force: bool, progress: Callable[[float], None]) -> None:
        if not isinstance(self.volume, Version1):
            raise Unsupported(f"{self.filename}: LUKS2 images can only be read")
        self._unlock()
        with self.lock:
            slots.amend(self.volume, self.file, self.options["key-secret"], options, force)
        progress(1.0)

    def readv(self, offset: int, into: Vector) -> None:
        cipher, at = self._cipher or self._unlock(), 0
        while at < into.length:
            inside = (offset + at) % self.unit
            count = min(into.length - at, CHUNK - inside)
            start, length = offset + at - inside, inside + count
            length += -length % self.unit
            data = self.file.read(self.volume.payload + start, length)
            plain = cipher.decrypt(start // version1.SECTOR + self.volume.tweak, data)
            into.slice(at, count).scatter(memoryview(plain)[inside : inside + count])
            at += count

    def writev(self, offset: int, data: Vector) -> None:
        if offset % self.unit or data.length % self.unit:
            with self.placing:  # the rest of a sector is read and written back: one at a time
                self._write(offset, data)
        else:
            self._write(offset, data)

    def _write(self, offset: int, data: Vector) -> None:
        cipher, at = self._cipher or self._unlock(), 0
        while at < data.length:
            inside = (offset + at) % self.unit
            count = min(data.length - at, CHUNK - inside)
            start, end = offset + at - inside, offset + at + count
            plain = data.slice(at, count).gather()
            if inside:
                plain = self.read(start, inside) + plain
            if end % self.unit:
                plain += self.read(end, self.unit - end % self.unit)
            self.file.write(self.volume.payload + start, cipher.encrypt(start // version1.SECTOR, plain))
            at += count

    def resize(self, size: int, preallocation: str = "off") -> None:
        self.file.resize(self.volume.payload + size, preallocation)
        self.size = size

    def flush(self) -> None:
        self.file.flush()

    def info(self) -> dict[str, Any]:
        return self.volume.info()
