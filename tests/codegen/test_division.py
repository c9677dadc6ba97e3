"""128-bit division against Python's, at the edges of what 64 bits hold."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator

import pytest

from exuvia.codegen import division, instructions
from exuvia.codegen.area import Code
from exuvia.codegen.build import compile_text
from exuvia.codegen.division import define

EDGES = [
    1,
    2,
    3,
    10,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    1 << 64,
    (1 << 64) + 1,
    (1 << 127) - 1,
    1 << 127,
]
MASK = (1 << 128) - 1
TEXT = """
define void @f(ptr %out, ptr %a, ptr %b) {{
  %n = load i128, ptr %a
  %d = load i128, ptr %b
  %v = call i128 @{name}128(i128 %n, i128 %d)
  store i128 %v, ptr %out
  ret void
}}
"""


def numbers() -> list[int]:
    """Edges, their negatives, and some between."""
    rng = random.Random(128)
    found = {x & MASK for e in EDGES for x in (e, -e, e - 1, rng.randrange(e), rng.getrandbits(64) << 64 | e)}
    return sorted(found)


def expected(name: str, n: int, d: int) -> int:
    """As processors divide: towards zero, the remainder with the dividend's sign."""
    if name[0] == "s":
        n, d = (x - (x >> 127 << 128) for x in (n, d))
    q = abs(n) // abs(d) * (-1 if (n < 0) != (d < 0) else 1)
    return (q if name[1:] == "div" else n - q * d) & MASK


@pytest.fixture(params=["x86_64", "another"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is made for this host, and for one without x86's DIV."""
    kind: str = request.param
    if kind == "another":
        monkeypatch.setattr(division, "host", lambda: (kind, frozenset()))
    elif not instructions.host()[0].startswith(kind):
        pytest.skip("not an x86 host")
    division.definitions.cache_clear()
    yield kind
    division.definitions.cache_clear()


@pytest.mark.parametrize("name", ["udiv", "urem", "sdiv", "srem"])
def test_as_python_divides(name: str, host: str) -> None:
    assert ("divq" in division.definitions()[name + "128"]) == (host == "x86_64")
    code, symbols = compile_text(define({f"declare i128 @{name}128(i128, i128)"}) + TEXT.format(name=name))
    area = Code(1 << 16)
    f = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p)(area.place(code) + symbols["f"])
    out = ctypes.create_string_buffer(16)
    for n in numbers():
        for d in numbers():
            if d:
                f(ctypes.cast(out, ctypes.c_char_p), n.to_bytes(16, "little"), d.to_bytes(16, "little"))
                assert int.from_bytes(out.raw, "little") == expected(name, n, d), (n, d)
