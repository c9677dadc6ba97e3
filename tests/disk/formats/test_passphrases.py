"""Passphrases come and go while the power fails or the program is killed: whoever could open the image, and may, still can."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exuvia.disk import objects
from exuvia.disk.format import Format
from exuvia.disk.formats.luks import keys
from exuvia.disk.graph import FORMATS
from exuvia.disk.node import ImageError
from exuvia.disk.options import values
from tests.disk.powercut import PowerCut

pytest.importorskip("cryptography")
NAMES = ("first", "second", "third")
CONTENT = random.Random(7).randbytes(8192)
STEPS: list[tuple[str, dict[str, Any], set[str], set[str]]] = [  # opened with, options, who can open it meanwhile, who afterwards
    ("first", {"state": "active", "new-secret": "second"}, {"first"}, {"first", "second"}),
    (
        "second",
        {"state": "active", "new-secret": "third", "keyslot": 6},
        {"first", "second"},
        {"first", "second", "third"},
    ),  # in two sectors
    ("third", {"state": "inactive", "old-secret": "first"}, {"second", "third"}, {"second", "third"}),
    ("second", {"state": "active", "new-secret": "first", "keyslot": 6}, {"second"}, {"first", "second"}),
    ("first", {"state": "inactive", "keyslot": 1}, {"first"}, {"first"}),
]


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(keys, "iterations_for", lambda *_: 1000)
    for name in NAMES:
        objects.define(f"secret,id={name},data=passphrase {name}")
    yield
    for name in NAMES:
        objects.remove(name)


def opened(kind: str, file: PowerCut, name: str, writable: bool = False) -> Format:
    options: dict[str, Any] = {"key-secret" if kind == "luks" else "encrypt.key-secret": name}
    return FORMATS[kind](file, writable=writable, **options)


def opens(kind: str, content: bytes, name: str) -> bool:
    """Whether the passphrase opens it; then the disk is what it was."""
    try:
        node = opened(kind, PowerCut(content), name)
    except ImageError as error:
        if "Invalid password, cannot unlock any keyslot" not in str(error):
            raise
        return False
    assert node.read(0, len(CONTENT)) == CONTENT
    return True


@pytest.mark.parametrize(("kind", "samples"), [("luks", 1), ("qcow2", 1), pytest.param("luks", 40, marks=pytest.mark.soak)])
def test_amend_loses_no_passphrase(kind: str, samples: int) -> None:
    prefix, rng = "" if kind == "luks" else "encrypt.", random.Random(samples)
    file = PowerCut()
    given = {f"{prefix}key-secret": "first", f"{prefix}cipher-alg": "aes-128", **({} if kind == "luks" else {"encrypt.format": "luks"})}
    FORMATS[kind].create(file, 1 << 20, values(FORMATS[kind].CREATE, given, kind))
    with opened(kind, file, "first", True) as node:
        node.write(0, CONTENT)
    for own, options, meanwhile, after in STEPS:
        with opened(kind, file, own, True) as node:
            file.before = cuts(kind, file, meanwhile, rng, samples)
            before = bytes(file.now)
            node.amend({f"{prefix}{key}": value for key, value in options.items()}, True, lambda _: None)
            file.before = lambda: None
            assert {name for name in NAMES if opens(kind, bytes(file.safe), name)} == after
        for gone in {name for name in NAMES if name not in after and opens(kind, before, name)}:
            assert kind != "luks" or not opens(kind, before[:4096] + bytes(file.safe[4096:]), gone)  # nor with a header that was kept


def cuts(kind: str, file: PowerCut, meanwhile: set[str], rng: random.Random, samples: int) -> Callable[[], None]:
    """Looks at what a kill and some power cuts leave at that moment."""

    seen: set[bytes] = set()

    def look() -> None:
        for content in {bytes(file.now), *(file.disk(rng) for _ in range(samples))} - seen:
            seen.add(content)
            for name in meanwhile:
                assert opens(kind, content, name)
            for name in set(NAMES) - meanwhile:
                opens(kind, content, name)  # or not, but never to anything else

    return look
