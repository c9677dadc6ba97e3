"""What both versions share: the anti-forensic splitter and the ways from a passphrase to a key."""

import time

from exuvia.disk.node import ImageError, Unsupported
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    import secrets
else:
    hashlib, secrets = Later("hashlib"), Later("secrets")

STRIPES = 4000
MOST_ITERATIONS = 50_000_000  # a header that asks for more would keep us busy for a minute
MOST_MEMORY = 4 << 20  # KiB, the specification's limit for Argon2
LARGEST_KEY = 64


def digest_size(hash_name: str) -> int:
    """Bytes that the hash makes. Raises Unsupported."""
    if hash_name not in ("sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", "whirlpool"):
        raise Unsupported(f"the hash '{hash_name}' is not supported (sha1, sha224, sha256, sha384, sha512 are)")
    try:
        return hashlib.new(hash_name).digest_size
    except ValueError:
        raise Unsupported(f"the hash '{hash_name}' is not in this Python's OpenSSL") from None


def pbkdf2(hash_name: str, passphrase: bytes, salt: bytes, iterations: int, length: int) -> bytes:
    """PKCS #5's derivation. Raises ImageError for a number of rounds that nobody means."""
    digest_size(hash_name)
    if not 0 < iterations <= MOST_ITERATIONS:
        raise ImageError(f"{iterations} iterations of PBKDF2 are not possible ({MOST_ITERATIONS} at most)")
    return hashlib.pbkdf2_hmac(hash_name, passphrase, salt, iterations, length)


def iterations_for(hash_name: str, length: int, milliseconds: int) -> int:
    """How many rounds take that long here, 1000 at least (the specification's minimum)."""
    digest_size(hash_name)
    count, taken = 1000, 0.0
    while taken < 0.02:
        count *= 2
        began = time.process_time()
        hashlib.pbkdf2_hmac(hash_name, b"password", b"salt" * 8, count, length)
        taken = time.process_time() - began
    return min(max(int(count * milliseconds / 1000 / taken), 1000), MOST_ITERATIONS)


def _diffuse(data: bytes, hash_name: str, size: int) -> bytes:
    """Each block of the hash's size becomes the hash of its number and itself."""
    made = b"".join(
        hashlib.new(hash_name, number.to_bytes(4, "big") + data[at : at + size]).digest()
        for number, at in enumerate(range(0, len(data), size))
    )
    return made if len(data) % size == 0 else made[: len(data) // size * size] + made[len(data) // size * size :][: len(data) % size]


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(one), "little")


def merge(material: bytes, length: int, stripes: int, hash_name: str) -> bytes:
    """The key from its stripes (AFmerge)."""
    size, value = digest_size(hash_name), bytes(length)
    for stripe in range(stripes - 1):
        value = _diffuse(_xor(value, material[stripe * length : (stripe + 1) * length]), hash_name, size)
    return _xor(value, material[(stripes - 1) * length : stripes * length])


def split(key: bytes, stripes: int, hash_name: str) -> bytes:
    """Stripes, all of which are needed to get the key back (AFsplit)."""
    size, value = digest_size(hash_name), bytes(len(key))
    material = secrets.token_bytes(len(key) * (stripes - 1))
    for stripe in range(stripes - 1):
        value = _diffuse(_xor(value, material[stripe * len(key) : (stripe + 1) * len(key)]), hash_name, size)
    return material + _xor(value, key)
