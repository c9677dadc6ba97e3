"""`--object` and object-add for disks: secrets, which descriptions name by id, and credentials for TLS.

secret,id=ID,data=TEXT|file=PATH[,format=raw|base64][,keyid=ID,iv=BASE64] (QEMU, System Emulation, Providing secret data)
"""

import base64
import binascii
import re
from typing import Any

from exuvia.support.errors import UserError

LIMITS = [f"{kind}-{what}{more}" for kind in ("bps", "iops") for what in ("total", "read", "write") for more in ("", "-max", "-max-length")]
KINDS = {
    "secret": ("data", "file", "format", "keyid", "iv"),
    "tls-creds-x509": ("dir", "endpoint", "verify-peer", "sanity-check", "passwordid", "priority"),
    "tls-creds-anon": ("dir", "endpoint", "verify-peer", "priority"),
    "tls-creds-psk": ("dir", "endpoint", "username", "verify-peer", "priority"),
    "authz-simple": ("identity",),
    "throttle-group": tuple(f"{way}{limit}" for way in ("x-", "limits.") for limit in (*LIMITS, "iops-size")),
}
_objects: dict[str, dict[str, str]] = {}


def define(text: str) -> str:
    """Make the object that KIND,id=ID,KEY=VALUE,… (`,,` is a comma in a value) or a JSON object describes; its id. Raises UserError."""
    if text.startswith("{"):
        import json

        try:
            said: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise UserError(f"'{text}' is not JSON: {error}") from None
        limits = said.pop("limits", {})
        given = {key: str(value) for key, value in said.items()} | {f"limits.{key}": str(value) for key, value in dict(limits).items()}
    else:
        parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
        pairs = [part.partition("=")[::2] for part in parts]
        if "=" not in parts[0]:
            pairs[0] = ("qom-type", parts[0])
        given = dict(pairs)
    kind = given.pop("qom-type", None)
    if kind is None:
        raise UserError("Parameter 'qom-type' is missing")
    if kind not in KINDS:
        raise UserError(f"Parameter 'qom-type' does not accept value '{kind}'")
    name = given.pop("id", None)
    if name is None:
        raise UserError("Parameter 'id' is missing")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name):
        raise UserError(
            "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter."
        )
    if name in _objects:
        raise UserError(f"attempt to add duplicate property '{name}' to object (type 'container')")
    for key in given:
        if key not in KINDS[kind]:
            raise UserError(f"Parameter '{key}' is unexpected")
    _objects[name] = {"qom-type": kind, **given}
    if kind == "secret":
        try:
            secret(name)
        except UserError:
            del _objects[name]
            raise
    return name


def remove(name: str) -> None:
    """Forget an object, as object-del does. Raises UserError."""
    if name not in _objects:
        raise UserError(f"object '{name}' not found")
    del _objects[name]


def kind(name: str) -> str | None:
    """What sort of object `name` is, None when there is none."""
    return _objects[name]["qom-type"] if name in _objects else None


def properties(name: str, kind: str) -> dict[str, str]:
    """What the object of that kind was given. Raises UserError."""
    found = _objects.get(name)
    if found is None:
        raise UserError(f"No {kind} with id '{name}'")
    if found["qom-type"] != kind:
        raise UserError(f"Object with id '{name}' is not a {kind}, but a {found['qom-type']}")
    return found


def secret(name: str) -> bytes:
    """The bytes of the secret `name`. Raises UserError."""
    said = properties(name, "secret")
    data, path = said.get("data"), said.get("file")
    if (data is None) == (path is None):
        raise UserError(f"secret '{name}': " + ("'file' and 'data' are mutually exclusive" if data else "Must provide 'file' or 'data'"))
    if path is not None:
        try:
            with open(path, "rb") as file:
                value = file.read(1 << 20)
        except OSError as error:
            raise UserError(f"Unable to read {path}: {error.strerror}") from None
    else:
        value = (data or "").encode()
    if "keyid" in said:
        return _decrypt(name, value, said)
    if said.get("format", "raw") == "base64":
        return _base64(name, value)
    return value


def _base64(name: str, value: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error:
        raise UserError(f"secret '{name}': it is not base64") from None


def _decrypt(name: str, value: bytes, said: dict[str, str]) -> bytes:
    """AES-256-CBC with PKCS#7 padding, the key from another secret."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise UserError(f"secret '{name}' is encrypted, which needs the Python package cryptography") from None
    key, start = secret(said["keyid"]), _base64(name, said.get("iv", "").encode())
    if len(key) != 32 or len(start) != 16:
        raise UserError(f"secret '{name}': the key has 32 bytes and iv 16, not {len(key)} and {len(start)}")
    cipher = Cipher(algorithms.AES(key), modes.CBC(start)).decryptor()
    data = _base64(name, value) if said.get("format", "raw") == "base64" else value
    plain = cipher.update(data) + cipher.finalize() if len(data) % 16 == 0 else b""
    if not plain or not 1 <= plain[-1] <= 16:
        raise UserError(f"secret '{name}': its decryption gives nonsense, is keyid right?")
    return plain[: -plain[-1]]
