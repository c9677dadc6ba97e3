"""Encrypted sectors: a cipher, a mode, and the rule that makes each sector's initialization vector (LUKS On-Disk Format, 1.2.3; dm-crypt).

Needs the package `cryptography`, the extra `crypt`, which is imported when the first cipher is made.
"""

from __future__ import annotations

from exuvia.disk.node import Unsupported
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from typing import Any
else:
    hashlib = Later("hashlib")

SECTOR = 512
KEY_BYTES = {"aes-128": 16, "aes-192": 24, "aes-256": 32}


class SectorCipher:
    """`alg` is as in KEY_BYTES, `mode` cbc, ecb, ctr or xts (whose key has two halves), `rule` plain, plain64 or essiv:HASH, None for ecb.

    Raises Unsupported for what is not known, or without the package.
    """

    def __init__(self, alg: str, mode: str, rule: str | None, key: bytes, sector: int = SECTOR) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        except ImportError:
            raise Unsupported("encrypted images need the Python package cryptography (install exuvia[crypt])") from None
        if alg not in KEY_BYTES or mode not in ("cbc", "ecb", "ctr", "xts"):
            raise Unsupported(f"the cipher {alg}-{mode} is not supported (aes in the modes cbc, ctr, ecb and xts is)")
        self.sector, self.mode = sector, mode
        self.make: Any = Cipher
        self.cipher = algorithms.AES(key)
        self.modes: dict[str, Any] = {"cbc": modes.CBC, "ctr": modes.CTR, "xts": modes.XTS}
        self.ecb = modes.ECB()
        name, _, hashed = (rule or "").partition(":")
        self.width = {"plain": 4, "plain64": 8, "essiv": 8, "": 8}.get(name, 0)
        self.essiv: Any = None
        if name == "essiv":
            try:
                salt = hashlib.new(hashed, key).digest()
                self.essiv = Cipher(algorithms.AES(salt), self.ecb)
            except ValueError as error:
                raise Unsupported(f"the rule {rule} for initialization vectors is not supported: {error}") from None
        elif not self.width or not (rule or mode == "ecb"):
            raise Unsupported(f"the rule '{rule}' for initialization vectors is not supported (plain, plain64 and essiv:HASH are)")

    def _vector(self, number: int) -> bytes:
        vector = (number & (1 << 8 * self.width) - 1).to_bytes(16, "little")
        if self.essiv is not None:
            worker = self.essiv.encryptor()
            made: bytes = worker.update(vector) + worker.finalize()
            return made
        return vector

    def _each(self, number: int, data: bytes, encrypt: bool) -> bytes:
        result = []
        unit, mode = self.sector, self.modes.get(self.mode)
        for at in range(0, len(data), unit):
            made = self.make(self.cipher, mode(self._vector(number)) if mode else self.ecb)
            worker = made.encryptor() if encrypt else made.decryptor()
            result.append(worker.update(data[at : at + unit]) + worker.finalize())
            number += unit // SECTOR
        return b"".join(result)

    def encrypt(self, number: int, data: bytes) -> bytes:
        """Whole sectors, the first of which is the disk's `number`-th of 512 bytes."""
        return self._each(number, data, True)

    def decrypt(self, number: int, data: bytes) -> bytes:
        """The other way."""
        return self._each(number, data, False)
