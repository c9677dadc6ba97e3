"""The header of LUKS 1 (On-Disk Format, 3): big-endian, eight key slots, the payload behind their material."""

from __future__ import annotations

from exuvia.disk.ciphers import KEY_BYTES, SectorCipher
from exuvia.disk.formats.luks import keys
from exuvia.disk.node import ImageError, Node
from exuvia.disk.structure import Structure, at
from exuvia.support.later import Later
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import secrets
    import uuid
    from typing import Any
else:
    secrets, uuid = Later("secrets"), Later("uuid")

MAGIC = b"LUKS\xba\xbe"
SECTOR, ALIGN = 512, 8  # bytes; sectors between which key material begins
SLOTS, ACTIVE, FREE = 8, 0x00AC71F3, 0x0000DEAD
WIPES = 3  # times that material of an erased slot is overwritten


class Header(Structure, order=">"):
    """struct phdr; `SLOTS` of `Slot` follow."""

    magic: bytes = at("6s", MAGIC)
    version: int = at("H", 1)
    cipher_name: bytes = at("32s", b"aes")
    cipher_mode: bytes = at("32s", b"")
    hash_spec: bytes = at("32s", b"")
    payload_offset: int = at("I")
    key_bytes: int = at("I")
    digest: bytes = at("20s", b"")
    digest_salt: bytes = at("32s", b"")
    digest_iterations: int = at("I")
    uuid: bytes = at("40s", b"")


class Slot(Structure, order=">"):
    """struct key slot."""

    active: int = at("I", FREE)
    iterations: int = at("I")
    salt: bytes = at("32s", b"")
    offset: int = at("I")
    stripes: int = at("I", keys.STRIPES)


def text(field: bytes) -> str:
    """A field that holds text ended by a zero byte."""
    return field.split(b"\0")[0].decode("ascii", "replace")


def _padded(material: bytes) -> bytes:
    """In whole sectors."""
    return material + bytes(-len(material) % SECTOR)


def room(key_bytes: int) -> int:
    """Sectors that a slot's material takes."""
    sectors = -(-key_bytes * keys.STRIPES // SECTOR)
    return sectors + -sectors % ALIGN


class Version1(Record):
    """A header, and how the disk behind it is encrypted. `unlock` gives the cipher."""

    header: Header
    slots: list[Slot]
    sector: int = SECTOR
    tweak: int = 0  # added to sector numbers

    @classmethod
    def read(cls, file: Node) -> Version1:
        """Raises ImageError for a header that cannot be."""
        data = file.read(0, Header.SIZE + SLOTS * Slot.SIZE)
        header = Header.unpack(data)
        slots = [Slot.unpack(data, Header.SIZE + index * Slot.SIZE) for index in range(SLOTS)]
        name, size = file.filename, file.size
        if not 0 < header.key_bytes <= keys.LARGEST_KEY:
            raise ImageError(f"{name}: a LUKS master key of {header.key_bytes} bytes cannot be")
        if header.payload_offset * SECTOR > size or header.payload_offset * SECTOR < Header.SIZE + SLOTS * Slot.SIZE:
            raise ImageError(f"{name}: the LUKS payload begins at byte {header.payload_offset * SECTOR} of a file of {size}")
        for index, slot in enumerate(slots):
            if slot.active not in (ACTIVE, FREE):
                raise ImageError(f"{name}: Keyslot {index} state (active/disable) is corrupted")
        made = cls(header, slots)
        for index in made.active():
            made.check(name, index)
        return made

    def active(self) -> list[int]:
        """Numbers of the slots that hold the master key."""
        return [index for index, slot in enumerate(self.slots) if slot.active == ACTIVE]

    def check(self, name: str, index: int) -> None:
        """Raises ImageError where a slot's material is not between header and payload."""
        slot = self.slots[index]
        end = slot.offset * SECTOR + self.header.key_bytes * slot.stripes
        if slot.stripes != keys.STRIPES or end > self.payload or slot.offset * SECTOR < Header.SIZE + SLOTS * Slot.SIZE:
            raise ImageError(f"{name}: Keyslot {index} has {slot.stripes} stripes at sector {slot.offset}, which cannot be")

    @property
    def payload(self) -> int:
        """Where the encrypted disk begins, in bytes."""
        return self.header.payload_offset * SECTOR

    def length(self, size: int) -> int:
        """How long the encrypted disk is in a file of `size` bytes."""
        return size - self.payload

    def specification(self) -> tuple[str, str, str | None]:
        """Algorithm with key size, mode, and rule of initialization vectors."""
        mode, _, rule = text(self.header.cipher_mode).partition("-")
        bits = self.header.key_bytes * 8 // (2 if mode == "xts" else 1)
        return f"{text(self.header.cipher_name)}-{bits}", mode, rule or None

    def cipher(self, key: bytes) -> SectorCipher:
        """The cipher of the disk, or of key material."""
        return SectorCipher(*self.specification(), key)

    def unlock(self, file: Node, passphrase: bytes) -> bytes | None:
        """The master key; None when the passphrase opens no slot."""
        for index in self.active():
            if (key := self.open_slot(file, index, passphrase)) is not None:
                return key
        return None

    def open_slot(self, file: Node, index: int, passphrase: bytes) -> bytes | None:
        """The master key from one slot that is active; None when the passphrase does not open it."""
        hash_name, slot = text(self.header.hash_spec), self.slots[index]
        derived = keys.pbkdf2(hash_name, passphrase, slot.salt, slot.iterations, self.header.key_bytes)
        length = self.header.key_bytes * slot.stripes
        material = file.read(slot.offset * SECTOR, length + -length % SECTOR)
        key = keys.merge(self.cipher(derived).decrypt(0, material), self.header.key_bytes, slot.stripes, hash_name)
        return key if self._digest(key) == self.header.digest else None

    def fill_slot(self, file: Node, index: int, key: bytes, passphrase: bytes, milliseconds: int) -> None:
        """Let a passphrase open the slot, in so long. Its material is safe before the header says that it is there."""
        self.check(file.filename, index)
        self.clear_slot(file, index)
        hash_name, length = text(self.header.hash_spec), self.header.key_bytes
        slot = self.slots[index]
        filled = slot.replaced(active=ACTIVE, iterations=keys.iterations_for(hash_name, length, milliseconds), salt=secrets.token_bytes(32))
        material = self.cipher(keys.pbkdf2(hash_name, passphrase, filled.salt, filled.iterations, length)).encrypt(
            0, _padded(keys.split(key, keys.STRIPES, hash_name))
        )
        file.write(slot.offset * SECTOR, material)
        file.flush()
        self._write_slot(file, index, filled)

    def clear_slot(self, file: Node, index: int) -> None:
        """Let nothing open the slot: first by the header's word, then because its material is gone."""
        slot = self.slots[index]
        if slot.active == FREE:
            return
        self._write_slot(file, index, slot.replaced(active=FREE, iterations=0, salt=bytes(32)))
        length = self.header.key_bytes * slot.stripes
        for _ in range(WIPES):
            file.write(slot.offset * SECTOR, secrets.token_bytes(length))
            file.flush()

    def _write_slot(self, file: Node, index: int, slot: Slot) -> None:
        file.write(Header.SIZE + index * Slot.SIZE, slot.pack())
        file.flush()
        self.slots[index] = slot

    def _digest(self, key: bytes) -> bytes:
        return keys.pbkdf2(text(self.header.hash_spec), key, self.header.digest_salt, self.header.digest_iterations, 20)

    def info(self) -> dict[str, Any]:
        """QMP's QCryptoBlockInfoLUKS."""
        alg, mode, rule = self.specification()
        name, _, hashed = (rule or "").partition(":")
        slots: list[dict[str, Any]] = []
        for slot in self.slots:
            active = slot.active == ACTIVE
            said: dict[str, Any] = {"active": active}
            if active:
                said["iters"] = slot.iterations
            said["key-offset"] = slot.offset * SECTOR
            if active:
                said["stripes"] = slot.stripes
            slots.append(said)
        return {
            "ivgen-alg": name,
            **({"ivgen-hash-alg": hashed} if hashed else {}),
            "hash-alg": text(self.header.hash_spec),
            "cipher-alg": alg,
            "uuid": text(self.header.uuid),
            "cipher-mode": mode,
            "slots": slots,
            "payload-offset": self.payload,
            "master-key-iters": self.header.digest_iterations,
        }


def create(passphrase: bytes, alg: str, mode: str, rule: str | None, hash_name: str, milliseconds: int) -> tuple[bytes, int]:
    """A header with its key material, and where the payload begins. Raises Unsupported for what is not known."""
    length = KEY_BYTES.get(alg, 0) * (2 if mode == "xts" else 1)
    header = Header(
        cipher_name=alg.partition("-")[0].encode(),
        cipher_mode=f"{mode}-{rule}".encode() if rule else mode.encode(),
        hash_spec=hash_name.encode(),
        payload_offset=ALIGN + SLOTS * room(length),
        key_bytes=length,
        digest_salt=secrets.token_bytes(32),
        uuid=str(uuid.uuid4()).encode(),
    )
    SectorCipher(alg, mode, rule, bytes(range(length)))  # so that what is not supported is refused before the key is derived
    key = secrets.token_bytes(length)
    header.digest_iterations = keys.iterations_for(hash_name, 20, max(milliseconds // 8, 1))
    header.digest = keys.pbkdf2(hash_name, key, header.digest_salt, header.digest_iterations, 20)
    slots = [Slot(offset=ALIGN + index * room(length)) for index in range(SLOTS)]
    slots[0] = Slot(ACTIVE, keys.iterations_for(hash_name, length, milliseconds), secrets.token_bytes(32), ALIGN)
    derived = keys.pbkdf2(hash_name, passphrase, slots[0].salt, slots[0].iterations, length)
    material = _padded(keys.split(key, keys.STRIPES, hash_name))
    packed = header.pack() + b"".join(each.pack() for each in slots)
    packed = packed.ljust(ALIGN * SECTOR, b"\0") + SectorCipher(alg, mode, rule, derived).encrypt(0, material)
    return packed, header.payload_offset * SECTOR
