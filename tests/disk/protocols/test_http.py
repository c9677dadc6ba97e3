"""Files at a web server: ranges, the cache, redirections, threads; servers that lie, stop or change get one error."""

import http.server
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exuvia.disk import objects
from exuvia.disk.graph import open_image
from exuvia.disk.protocols import http as module
from exuvia.disk.protocols.http import Http
from exuvia.disk.protocols.https import Https
from exuvia.support.errors import UserError
from tests.disk.nbd.serving import certificates

CONTENT = random.Random(1).randbytes(3_000_017)


class Site(http.server.ThreadingHTTPServer):
    """`odd` may answer a request in its own way by returning True."""

    daemon_threads = True
    odd: Callable[["Page"], bool] = staticmethod(lambda page: False)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.requests: list[str] = []
        self.connections = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append(asked)
        if self.server.odd(self):
            return
        first, last = (int(word) for word in asked.removeprefix("bytes=").split("-"))
        self.part(CONTENT[first : last + 1], f"bytes {first}-{min(last, len(CONTENT) - 1)}/{len(CONTENT)}")

    def part(self, data: bytes, span: str, status: int = 206, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *words: object) -> None:
        pass


@contextmanager
def site(odd: Callable[[Page], bool] | None = None, tls: ssl.SSLContext | None = None) -> Iterator[tuple[Site, str]]:
    with Site() as server:
        if odd:
            server.odd = odd
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server, f"http{'s' if tls else ''}://localhost:{server.server_port}/disk.raw"
        finally:
            server.shutdown()
            thread.join()


def test_everything_is_read_once_and_over_few_connections() -> None:
    with site() as (server, url), open_image(url, "raw") as node:
        assert node.read(0, len(CONTENT)) == CONTENT
        assert node.size == len(CONTENT) + -len(CONTENT) % 512
        asked = len(server.requests)
        assert asked <= 3 and server.connections == 1
        rng = random.Random(2)
        for _ in range(200):
            at, length = rng.randrange(len(CONTENT)), rng.randrange(1, 9000)
            assert node.read(at, length) == CONTENT[at : at + length].ljust(length, b"\0")
        assert len(server.requests) == asked


def test_the_cache_has_an_end_and_threads_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE", 4 * 65536)
    with site() as (server, url), Http(url=url, readahead=65536) as node:
        failures: list[int] = []

        def work(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(40):
                at = rng.randrange(len(CONTENT) - 200_000)
                if node.read(at, 200_000) != CONTENT[at : at + 200_000]:
                    failures.append(at)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures and len(node._blocks) == 4
        assert len(server.requests) > 40


def test_a_redirection_is_followed_and_remembered() -> None:
    def odd(page: Page) -> bool:
        if page.path == "/disk.raw":
            page.part(b"", "", 302, Location="/moved/here?x=1")
            return True
        assert page.path == "/moved/here?x=1"
        return False

    with site(odd) as (_, url), Http(url=url) as node:
        assert node.read(1_000_000, 10) == CONTENT[1_000_000:1_000_010]


def test_passwords_and_cookies() -> None:
    seen: list[tuple[str | None, str | None]] = []

    def odd(page: Page) -> bool:
        seen.append((page.headers.get("Authorization"), page.headers.get("Cookie")))
        return False

    objects.define("secret,id=pass,data=opensesame")
    try:
        said: dict[str, Any] = {"username": "aladdin", "password-secret": "pass", "cookie": "a=b"}
        with site(odd) as (_, url), Http(url=url, **said):
            assert seen == [("Basic YWxhZGRpbjpvcGVuc2VzYW1l", "a=b")]
    finally:
        objects.remove("pass")


def test_an_empty_file() -> None:
    def odd(page: Page) -> bool:
        page.part(b"", "bytes */0", 416)
        return True

    with site(odd) as (_, url), Http(url=url) as node:
        assert node.size == 0 and node.read(0, 3) == bytes(3)


def test_tls(tmp_path: Path) -> None:
    certificates(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    with site(tls=server) as (_, url):
        with pytest.raises(UserError, match="certificate verify failed"):
            Https(url=url)
        with Https(url=url, sslverify=False) as node:
            assert node.read(5, 10) == CONTENT[5:15]


def whole(page: Page) -> bool:
    page.part(CONTENT, "", 200)
    return True


def missing(page: Page) -> bool:
    page.part(b"", "", 404)
    return True


def circle(page: Page) -> bool:
    page.part(b"", "", 301, Location=page.path)
    return True


def to_a_file(page: Page) -> bool:
    page.part(b"", "", 301, Location="file:///etc/passwd")
    return True


def no_range(page: Page) -> bool:
    page.part(CONTENT[:1000], "bytes nonsense")
    return True


def huge(page: Page) -> bool:
    page.part(CONTENT[: 256 << 10], f"bytes 0-262143/{1 << 64}")
    return True


def short_at_first(page: Page) -> bool:
    page.part(CONTENT[:1000], f"bytes 0-262143/{len(CONTENT)}")
    return True


def nonsense(page: Page) -> bool:
    page.wfile.write(b"\x00\x01nonsense\r\n\r\n")
    page.close_connection = True
    return True


def silence(page: Page) -> bool:
    time.sleep(3)
    page.close_connection = True
    return True


@pytest.mark.parametrize(
    ("odd", "text"),
    [(whole, "Server does not support 'range'"), (missing, "status 404"), (circle, "redirects in a circle"), (to_a_file, "is not followed"),
     (no_range, "Content-Range 'bytes nonsense'"), (huge, "Content-Range"), (short_at_first, "sent 1000 of"), (nonsense, "no answer"),
     (silence, "silent for 1 seconds")],
)  # fmt: skip
def test_servers_that_cannot_be_used(odd: Callable[[Page], bool], text: str) -> None:
    with site(odd) as (_, url):
        began = time.monotonic()
        with pytest.raises(UserError) as failed:
            Http(url=url, timeout=1)
        assert text in str(failed.value) and url in str(failed.value) and time.monotonic() - began < 5


def later(odd: Callable[[Page], None]) -> Callable[[Page], bool]:
    """Fine for the first block, then odd."""

    def answer(page: Page) -> bool:
        if page.headers.get("Range", "").startswith("bytes=0-"):
            return False
        odd(page)
        page.close_connection = True
        return True

    return answer


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (lambda page: page.part(CONTENT[:1000], f"bytes 786432-1048575/{len(CONTENT)}", length=262144), "ended after 1000 of 262144"),
        (lambda page: page.part(CONTENT[:262144], f"bytes 0-262143/{len(CONTENT)}"), "from 0 on, not from 786432"),
        (lambda page: page.part(CONTENT[:262144], "bytes 786432-1048575/4000000"), "changed"),
        (lambda page: page.part(CONTENT[:262144], f"bytes 786432-1048575/{len(CONTENT)}", ETag="other"), "changed"),
        (lambda page: page.part(b"", "", 500), "status 500"),
        (lambda page: None, "no answer"),
        (lambda page: time.sleep(3), "silent for 1 seconds"),
    ],
)
def test_servers_that_turn_bad(odd: Callable[[Page], None], text: str) -> None:
    with site(later(odd)) as (_, url), Http(url=url, timeout=1) as node:
        assert node.read(0, 10) == CONTENT[:10]
        began = time.monotonic()
        with pytest.raises(OSError) as failed:
            node.read(800_000, 10)
        assert text in str(failed.value) and url in str(failed.value) and time.monotonic() - began < 5


def test_a_server_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOWEST", 1 << 20)

    def drip(page: Page) -> None:
        page.part(b"", f"bytes 786432-1048575/{len(CONTENT)}", length=262144)
        for _ in range(40):
            page.wfile.write(b"x")
            page.wfile.flush()
            time.sleep(0.1)

    with site(later(drip)) as (_, url), Http(url=url, timeout=1) as node:
        began = time.monotonic()
        with pytest.raises(OSError, match="too slow"):
            node.read(800_000, 10)
        assert time.monotonic() - began < 3


def test_one_broken_answer_is_asked_for_again() -> None:
    broken = [True]

    def odd(page: Page) -> bool:
        if page.headers["Range"].startswith("bytes=0-") or not broken.pop():
            return False
        page.part(CONTENT[:10], f"bytes 786432-1048575/{len(CONTENT)}", length=262144)
        page.close_connection = True
        broken.append(False)
        return True

    with site(odd) as (_, url), Http(url=url) as node:
        broken.append(True)
        assert node.read(800_000, 10) == CONTENT[800_000:800_010]


@pytest.mark.parametrize("url", ["http://", "http://localhost:99999/", "http://[::1", "http://localhost:1/x"])
def test_urls_that_lead_nowhere(url: str) -> None:
    with pytest.raises(UserError):
        Http(url=url)
