"""Servers for tests: ours in a thread, a scripted one that says what a test wants, a proxy that spoils what passes."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exuvia.disk.nbd.address import Address
from exuvia.disk.nbd.export import Export
from exuvia.disk.nbd.server import Server, listen


@contextmanager
def served(path: Path, *exports: Export, **options: Any) -> Iterator[Server]:
    """Our server at the Unix socket `path`."""
    server = Server(listen(Address(path=str(path))), {export.name: export for export in exports}, **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(30)
        path.unlink(missing_ok=True)
        assert not thread.is_alive()


@contextmanager
def scripted(path: Path, script: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that treats every client with `script`, in threads."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def accept() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=treat, args=(client,), daemon=True).start()

        def treat(client: socket.socket) -> None:
            with client:
                try:
                    script(client)
                except OSError:
                    pass

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            path.unlink()


def spoiling(behind: Path, spoil: Callable[[int, bytes], bytes | None]) -> Callable[[socket.socket], None]:
    """A script that stands before a real server; `spoil` sees the server's bytes with their offset, and may change or end (None) them."""

    def script(client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(str(behind))

            def forward() -> None:
                try:
                    while data := client.recv(1 << 16):
                        server.sendall(data)
                except OSError:
                    pass
                try:
                    server.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

            thread = threading.Thread(target=forward)
            thread.start()
            offset = 0
            try:
                while data := server.recv(1 << 16):
                    changed = spoil(offset, data)
                    if changed is None:
                        break
                    client.sendall(changed)
                    offset += len(data)
            finally:
                client.shutdown(socket.SHUT_RDWR)
                thread.join(10)

    return script


def certificates(folder: Path) -> None:
    """An authority, a server `localhost` and a client, in QEMU's files."""

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    run(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca-key.pem",
        "-out",
        "ca-cert.pem",
        "-days",
        "2",
    )
    for end, name in (("server", "localhost"), ("client", "guest")):
        run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/O=Exuvia/CN={name}", "-keyout", f"{end}-key.pem", "-out", f"{end}.csr")
        (folder / "ext").write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage={end}Auth\nbasicConstraints=CA:FALSE\n")
        run("x509", "-req", "-in", f"{end}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2",
            "-extfile", "ext", "-out", f"{end}-cert.pem")  # fmt: skip
