"""http: a file that a web server has, read in ranges (RFC 9110, section 14) and kept in a small cache. TLS is `https.py`'s."""

import base64
import errno
import http.client
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

from exuvia.disk import objects
from exuvia.disk.node import ImageError, Node
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

UNIT = 256 << 10  # bytes of a block, unless `readahead` says otherwise
CACHE = 16 << 20  # bytes of blocks that are kept
LARGEST = 4 << 20  # bytes of one request
REDIRECTIONS = 10
IDLE = 4  # connections that are kept
SLOWEST = 16 << 10  # bytes a second, below which a server counts as gone
ATTEMPTS = 3  # at a request whose connection breaks

Answer = tuple[int, "http.client.HTTPMessage", bytes]


class Http(Node):
    """Read-only. Whatever the server does wrong is an OSError with the URL, and nothing takes longer than `timeout` and SLOWEST allow."""

    name = "http"
    schemes: tuple[str, ...] = ("http",)
    OPTIONS = (
        Option("url", str, None, "where the file is"),
        Option("readahead", "size", UNIT, "bytes read at once"),
        Option("timeout", int, 5, "seconds of silence that are borne"),
        Option("sslverify", bool, True, "whether the server's certificate must be right"),
        Option("username", str, None, "for the server"),
        Option("password-secret", str, None, "the id of the password for the server"),
        Option("proxy-username", str, None, "for the proxy"),
        Option("proxy-password-secret", str, None, "the id of the password for the proxy"),
        Option("cookie", str, None, "cookies, NAME=VALUE; …"),
        Option("cookie-secret", str, None, "the id of a secret that holds them"),
    )

    @classmethod
    def describe(cls, name: str) -> dict[str, Any]:
        """The URL itself."""
        return {"driver": cls.name, "url": name}

    def __init__(self, *, url: str | None = None, writable: bool = False, share: bool = False, **said: Any) -> None:
        if url is None:
            raise UserError(f"{self.name} block driver requires an 'url' option")
        if writable:
            raise ImageError(f"{url}: {self.name} images are read-only (no access for writing)")
        self.filename = self.url = url
        self.said = said
        self.unit: int = said.get("readahead", UNIT)
        if self.unit < 512 or self.unit % 512:
            raise UserError(f"HTTP_READAHEAD_SIZE {self.unit} is not a multiple of 512 (option readahead)")
        self.timeout: int = said.get("timeout", 5)
        self.headers = self._headers()
        self._idle: list[http.client.HTTPConnection] = []
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._fetching: set[int] = set()
        self._change = threading.Condition()
        self.closed = False
        self.tag: str | None = None
        try:
            self.size = self._find_size()
        except OSError as error:
            self.close()
            raise ImageError(f"{url}: {error.strerror or error}") from None
        except BaseException:
            self.close()
            raise

    def _headers(self) -> dict[str, str]:
        said = self.said
        headers = {"Accept-Encoding": "identity", "User-Agent": "exuvia"}
        if said.get("username") is not None:
            headers["Authorization"] = self._basic(said["username"], said.get("password-secret"))
        if said.get("proxy-username") is not None:
            headers["Proxy-Authorization"] = self._basic(said["proxy-username"], said.get("proxy-password-secret"))
        if "cookie" in said and "cookie-secret" in said:
            raise UserError("curl driver cannot handle both cookie and cookie secret")
        cookie = objects.secret(said["cookie-secret"]).decode() if "cookie-secret" in said else said.get("cookie")
        return {**headers, "Cookie": cookie} if cookie else headers

    @staticmethod
    def _basic(user: str, password: str | None) -> str:
        pair = user.encode() + b":" + (objects.secret(password) if password else b"")
        return "Basic " + base64.b64encode(pair).decode()

    def _find_size(self) -> int:
        """By asking for the first block. Raises OSError, UserError."""
        for _ in range(REDIRECTIONS):
            status, headers, data = self._request(0, self.unit, first=True)
            if status in (301, 302, 303, 307, 308):
                self._redirect(headers.get("Location", ""))
                continue
            if status == 416 and (headers.get("Content-Range") or "").strip().endswith("/0"):
                return 0
            if status == 200:
                raise ImageError(f"{self.filename}: Server does not support 'range' (byte ranges).")
            if status != 206:
                raise ImageError(f"{self.filename}: The server answers with status {status}")
            self.tag = headers.get("ETag") or headers.get("Last-Modified")
            first, size = self._range(headers, 0, None)
            if len(data) != min(self.unit, size) or first:
                raise ImageError(f"{self.filename}: the server sent {len(data)} of {min(self.unit, size)} bytes")
            self._blocks[0] = data
            return size
        raise ImageError(f"{self.filename}: the server redirects in a circle")

    def _redirect(self, place: str) -> None:
        target = urljoin(self.url, place)
        old, new = urlsplit(self.url), urlsplit(target)
        if not place or new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise ImageError(f"{self.filename}: the server redirects to '{place[:200]}', which is not followed")
        if new.hostname != old.hostname:
            for secret in ("Authorization", "Cookie"):
                self.headers.pop(secret, None)
        self._drop()
        self.url = target

    @staticmethod
    def _range(headers: "http.client.HTTPMessage", start: int, size: int | None) -> tuple[int, int]:
        """First byte and whole size of a 206. Raises OSError for one that does not fit."""
        unit, _, rest = (headers.get("Content-Range") or "").partition(" ")
        span, _, whole = rest.partition("/")
        first = span.partition("-")[0]
        if unit.lower() != "bytes" or not first.isdigit() or not whole.isdigit() or len(first + whole) > 40 or int(whole) >= 1 << 63:
            raise OSError(errno.EIO, f"the server's answer has Content-Range '{(headers.get('Content-Range') or '')[:80]}'")
        if int(first) != start:
            raise OSError(errno.EIO, f"the server sent bytes from {first} on, not from {start}")
        if size is not None and int(whole) != size:
            raise OSError(errno.EIO, f"the file at the server changed: it had {size} bytes and now has {whole}")
        return int(first), int(whole)

    def _connection(self) -> http.client.HTTPConnection:
        """A new one, through the proxy that the environment names."""
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(self.url)
        try:
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise UserError(f"'{self.url}' is no URL: {error}") from None
        if not host:
            raise UserError(f"'{self.url}' is no URL: it has no host")
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) if not proxy_bypass(host) else None
        via = urlsplit(proxy if "//" in proxy else f"//{proxy}") if proxy else None
        where, at = (via.hostname or "", via.port or 80) if via else (host, port)
        if parts.scheme == "http":
            return http.client.HTTPConnection(where, at, timeout=self.timeout)
        import ssl

        context = ssl.create_default_context()
        if not self.said.get("sslverify", True):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        made = http.client.HTTPSConnection(where, at, timeout=self.timeout, context=context)
        if via:
            login = self.headers.get("Proxy-Authorization")
            made.set_tunnel(host, port, {"Proxy-Authorization": login} if login else {})
        return made

    def _path(self) -> str:
        """What to ask for: a path, or the whole URL when a proxy is in between."""
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        proxies = getproxies()
        if parts.scheme == "http" and "http" in proxies and not proxy_bypass(parts.hostname or ""):
            return f"http://{parts.netloc.rpartition('@')[2]}{path}"
        return path

    def _request(self, start: int, length: int, first: bool = False) -> Answer:
        """Ask for a range. Raises OSError."""
        failure: Exception | None = None
        for attempt in range(ATTEMPTS):
            with self._change:
                connection = self._idle.pop() if self._idle and not attempt else None
            fresh = connection is None
            try:
                connection = connection or self._connection()
                answer = self._try(connection, start, length)
            except TimeoutError:
                _close(connection)
                raise OSError(errno.ETIMEDOUT, f"the server was silent for {self.timeout} seconds, or is too slow") from None
            except (http.client.HTTPException, OSError, ValueError) as error:
                _close(connection)
                failure = error
                if fresh and (first or not isinstance(error, http.client.HTTPException | ConnectionError)):
                    break
                continue
            except BaseException:
                _close(connection)
                raise
            return answer
        assert failure is not None
        if isinstance(failure, http.client.IncompleteRead):
            raise OSError(errno.EIO, f"the server's answer ended after {len(failure.partial)} of {length} bytes") from None
        text = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
        raise OSError(errno.EIO, f"no answer of the server: {text}") from None

    def _try(self, connection: http.client.HTTPConnection, start: int, length: int) -> Answer:
        connection.request("GET", self._path(), headers={**self.headers, "Range": f"bytes={start}-{start + length - 1}"})
        response = connection.getresponse()
        data = self._body(response, length) if response.status == 206 else b""
        if response.status == 206 and response.isclosed() and not response.will_close and not self.closed:
            with self._change:
                if len(self._idle) < IDLE:
                    self._idle.append(connection)
                    return response.status, response.headers, data
        connection.close()
        return response.status, response.headers, data

    def _body(self, response: http.client.HTTPResponse, length: int) -> bytes:
        end = time.monotonic() + self.timeout + length / SLOWEST
        parts, left = [], length
        while left and (data := response.read1(min(left, 1 << 18))):
            parts.append(data)
            left -= len(data)
            if time.monotonic() > end:
                raise TimeoutError
        content = b"".join(parts)
        if left and response.length:
            raise http.client.IncompleteRead(content, response.length)
        if not left and not response.isclosed():
            response.read(1)  # nothing: that is how it learns of the end
        return content

    def _drop(self) -> None:
        with self._change:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def readv(self, offset: int, into: Vector) -> None:
        there = max(0, min(into.length, self.size - offset))
        if there < into.length:
            into.slice(there, into.length - there).clear()
        at = 0
        while at < there:
            count = min(there - at, LARGEST)
            self._read(offset + at, into.slice(at, count))
            at += count

    def _read(self, offset: int, into: Vector) -> None:
        first, last = offset // self.unit, (offset + into.length - 1) // self.unit
        held = self._take(first, last)
        missing = [number for number in range(first, last + 1) if number not in held]
        try:
            for start, end in _runs(missing):
                self._fetch(start, end, held)
        finally:
            with self._change:
                self._fetching.difference_update(missing)
                self._change.notify_all()
        content = b"".join([held[number] for number in range(first, last + 1)])
        start = offset - first * self.unit
        into.scatter(memoryview(content)[start : start + into.length])

    def _take(self, first: int, last: int) -> dict[int, bytes]:
        """Blocks that are there; the others are this thread's to fetch, once nobody else fetches them."""
        wanted = range(first, last + 1)
        with self._change:
            self._change.wait_for(lambda: not any(number in self._fetching for number in wanted))
            held = {number: self._blocks[number] for number in wanted if number in self._blocks}
            for number in held:
                self._blocks.move_to_end(number)
            self._fetching.update(number for number in wanted if number not in held)
        return held

    def _fetch(self, start: int, end: int, held: dict[int, bytes]) -> None:
        """Blocks from `start` up to `end`. Raises OSError."""
        try:
            length = min(end * self.unit, self.size) - start * self.unit
            status, headers, data = self._request(start * self.unit, length)
            if status != 206:
                raise OSError(errno.EIO, f"the server answers with status {status}")
            self._range(headers, start * self.unit, self.size)
            if len(data) != length:
                raise OSError(errno.EIO, f"the server's answer ended after {len(data)} of {length} bytes")
            tag = headers.get("ETag") or headers.get("Last-Modified")
            if tag != self.tag:
                raise OSError(errno.EIO, "the file at the server changed")
        except OSError as error:
            raise OSError(error.errno or errno.EIO, f"{self.filename}: {error.strerror or error}") from None
        for number in range(start, end):
            at = (number - start) * self.unit
            held[number] = data[at : at + self.unit]
        with self._change:
            for number in range(start, end):
                self._blocks[number] = held[number]
            while len(self._blocks) * self.unit > CACHE and len(self._blocks) > 1:
                self._blocks.popitem(last=False)

    def close(self) -> None:
        self.closed = True
        self._drop()


def _close(connection: http.client.HTTPConnection | None) -> None:
    if connection is not None:
        connection.close()


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """(first, end) of numbers that follow one another."""
    start = None
    for number in numbers:
        if start is None:
            start = end = number
        elif number != end:
            yield start, end
            start = number
        end = number + 1
    if start is not None:
        yield start, end
