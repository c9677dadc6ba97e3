"""TLS for NBD: credentials as QEMU's objects describe them, and a channel that two threads can use at once.

A socket of Python's `ssl` must not be read and written at the same time; the engine in memory here has a lock of its own, so that a thread
that waits for the network does not hold up the others.
"""

import os
import ssl
import threading
from collections.abc import Sequence
from typing import Any, cast

from exuvia.disk import objects
from exuvia.disk.nbd.wire import Broken, Channel
from exuvia.disk.vector import Buffer
from exuvia.support.errors import UserError

PIECE = 64 << 10
FOLDERS = ("~/.pki/qemu", "/etc/pki/qemu")  # where QEMU looks when `dir` is not given: see --object tls-creds-x509


def context(name: str, server: bool) -> ssl.SSLContext:
    """What the object `name` (tls-creds-x509, tls-creds-psk, tls-creds-anon) says. Raises UserError."""
    kind = objects.kind(name)
    if kind not in ("tls-creds-x509", "tls-creds-psk", "tls-creds-anon"):
        raise UserError(f"Object '{name}' is not TLS credentials" if kind else f"No TLS credentials with id '{name}'")
    said = objects.properties(name, kind)
    wanted = "server" if server else "client"
    if said.get("endpoint", "client") != wanted:
        raise UserError(f"Expecting TLS credentials with a {wanted} endpoint ({name} is of endpoint={said.get('endpoint', 'client')})")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if "priority" in said:
        raise UserError(f"{name}: priority is in GnuTLS's language, which OpenSSL does not know")
    if kind == "tls-creds-x509":
        _certificates(made, name, said, server)
    elif kind == "tls-creds-psk":
        _shared_key(made, name, said, server)
    else:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers("ADH:AECDH:@SECLEVEL=0")
    return made


def _folder(name: str, said: dict[str, str]) -> str:
    if "dir" in said:
        return said["dir"]
    for folder in map(os.path.expanduser, FOLDERS):
        if os.path.isdir(folder):
            return folder
    raise UserError(f"{name}: dir is missing, the folder of ca-cert.pem and the like")


def _certificates(made: ssl.SSLContext, name: str, said: dict[str, str], server: bool) -> None:
    folder, end = _folder(name, said), "server" if server else "client"
    authority, chain, key = (os.path.join(folder, file) for file in ("ca-cert.pem", f"{end}-cert.pem", f"{end}-key.pem"))
    verify = said.get("verify-peer", "on") in ("on", "yes", "true")
    password = objects.secret(said["passwordid"]) if "passwordid" in said else b""
    at = authority
    try:
        if verify or not server:
            made.load_verify_locations(authority)
        at = chain
        if server or os.path.exists(chain):
            made.load_cert_chain(chain, key, password or (lambda: b""))
    except (OSError, ssl.SSLError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            missing = next((path for path in (at, key) if not os.path.exists(path)), at)
            raise UserError(f"Unable to access credentials {missing}: No such file or directory") from None
        raise UserError(f"Unable to load credentials {at}: {getattr(error, 'reason', None) or error}") from None
    if verify:
        made.verify_mode = ssl.CERT_REQUIRED
        made.check_hostname = not server


def _shared_key(made: Any, name: str, said: dict[str, str], server: bool) -> None:
    """A file of USER:HEXADECIMAL lines."""
    if not hasattr(made, "set_psk_client_callback"):
        raise UserError(f"{name}: tls-creds-psk needs Python 3.13 or newer")
    path = os.path.join(_folder(name, said), "keys.psk")
    try:
        with open(path, encoding="utf-8") as file:
            keys = {user: bytes.fromhex(key) for user, _, key in (line.strip().partition(":") for line in file) if user}
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {path}: {getattr(error, 'strerror', None) or error}") from None
    made.set_ciphers("PSK")
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    if server:
        made.set_psk_server_callback(lambda user: keys.get(user or "", b""))
        return
    user = said.get("username", "qemu")
    if user not in keys:
        raise UserError(f"{name}: {path} has no key of user '{user}'")
    made.set_psk_client_callback(lambda hint: (user, keys[user]))


class TlsChannel(Channel):
    """A channel inside TLS; made around a plain one, after a handshake. `host` is the name that the server's certificate must have."""

    def __init__(self, plain: Channel, made: ssl.SSLContext, *, server: bool, host: str | None = None) -> None:
        super().__init__(plain.sock)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if made.check_hostname and host is None:
            made.check_hostname = False
        self.engine = made.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=None if server else host)
        self.guard = threading.Lock()
        try:
            self._handshake()
        except ssl.SSLError as error:
            try:
                self._push()  # the alert
            except OSError:
                pass
            reason = getattr(error, "verify_message", "") or (error.reason or str(error)).lower().replace("_", " ")
            raise Broken(f"TLS handshake failed: {reason}") from None
        except TimeoutError:
            raise Broken("TLS handshake failed: no answer in time") from None
        except OSError as error:
            raise Broken(f"TLS handshake failed: {error.strerror or error}") from None

    def _handshake(self) -> None:
        while True:
            try:
                self.engine.do_handshake()
                self._push()
                return
            except ssl.SSLWantReadError:
                self._push()
                self._pull()

    def _push(self) -> None:
        if data := self.outgoing.read():
            self.sock.sendall(data)

    def _pull(self) -> None:
        data = self.sock.recv(PIECE)
        with self.guard:
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()

    def some(self, into: memoryview) -> int:
        while True:
            try:
                with self.guard:
                    return cast(int, self.engine.read(len(into), into))  # a count, where there is a buffer
            except ssl.SSLWantReadError:
                if self.outgoing.pending:
                    with self.sending:
                        self._push()
                self._pull()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0

    def _send(self, parts: Sequence[Buffer]) -> None:
        for part in parts:
            view = memoryview(part)
            for at in range(0, len(view), PIECE):
                with self.guard:
                    self.engine.write(view[at : at + PIECE])
                    data = self.outgoing.read()
                self.sock.sendall(data)

    def waiting(self) -> bool:
        return bool(self.incoming.pending or self.engine.pending()) or super().waiting()

    def peer(self) -> str:
        """The distinguished name in the other side's certificate, "" without one."""
        found: Any = self.engine.getpeercert() or {}
        short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C", "localityName": "L",
                 "stateOrProvinceName": "ST"}  # fmt: skip
        return ",".join(f"{short.get(key, key)}={value}" for part in reversed(found.get("subject", ())) for key, value in part)
