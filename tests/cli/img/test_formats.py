"""What commands print about images of every format that both we and qemu-img make, and conversions between them."""

from itertools import product
from pathlib import Path

import pytest

from exuvia.disk.graph import FORMATS
from tests.cli.img.test_command_lines import raw, words_of
from tests.cli.img.twins import Twins, io_write, needs_qemu, ours, theirs

pytestmark = needs_qemu
PLAIN = [name for name in ("raw", "qcow2", "qcow", "qed", "vdi", "vmdk", "vpc", "vhdx", "parallels") if name in FORMATS]
SILENT = ("vhdx",)  # QEMU does not say where its data lies; we do
OWN_ORDER = ("qcow", "qed")  # tables and data take their places in another order than QEMU's, so that images that we made lie otherwise

# `~`: only the status is alike
LINES = """
create -f F -o help
create -f F -o help x
create -f F e 16M
create -f F odd 1000000
info e
info odd
check e
map --output=json e
info t
info --output=json t
check t
check --output=json t
map --output=json t
map t
compare t source.raw
compare -s t t
measure -O raw t
measure -O F --size 10M
measure -O F t
convert -O F source.raw u
info u
check u
map --output=json u
compare u source.raw
convert -O raw u u.raw
convert -O F -S 0 source.raw v
check v
convert -c -O F source.raw c
snapshot -l t
snapshot -c x t
bitmap --add t b
amend -o x=1 t
resize t 20M
info t
resize --shrink t 12M
~check t
compare t source.raw
bench -c 10 t
dd -O F bs=1M count=3 if=source.raw of=d
compare d source.raw
"""


def content() -> bytes:
    """16 MiB with data and holes of many sizes."""
    pieces = [(at * 733 * 1024 + at * 512, bytes([at + 1]) * (1 << at % 5 * 3) * 512) for at in range(20)]
    return raw(16 << 20, *pieces, ((16 << 20) - 100, b"the end"))


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    """Folders with the image `source.raw`."""
    pair = Twins(tmp_path)
    pair.both("source.raw", content())
    return pair


@pytest.mark.parametrize("format", PLAIN)
def test_lines(twins: Twins, format: str) -> None:
    """The same answers, and images that hold the same."""
    assert theirs(twins.a, "create", "-f", format, "t", "16M").status == 0
    io_write(twins.a, "t", format, "write -P 1 0 4k", "write -P 2 1M 300k", "write -z 2M 1M", "write -P 3 5000000 512", "write -P 4 15M 1M")
    twins.give()
    failures = []
    for line in LINES.strip("\n").replace(" F", f" {format}").split("\n"):
        try:
            if (format in SILENT and line.startswith("map")) or (format == "qcow" and line.startswith("convert -c")):
                ours(twins.b, *words_of(line))  # QEMU's own qcow refuses compressed writes, without a word
            else:
                ordered = format not in OWN_ORDER or line.split()[-1] not in ("u", "v")
                twins.same(*words_of(line.removeprefix("~")), output=ordered and not line.startswith("~"))
        except AssertionError as error:
            failures.append(f"exuvia-img {line}\n{error}")
    for name in ("e", "odd", "t", "u", "v", "c", "d"):
        try:
            if (twins.b / name).exists() and (twins.a / name).exists():
                twins.content(name, format)
        except AssertionError as error:
            failures.append(f"{name}\n{error}")
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize(("source", "target"), [pair for pair in product(PLAIN, PLAIN) if {"raw", "qcow2"} & set(pair)])
def test_conversion(twins: Twins, source: str, target: str) -> None:
    """From qemu-img's image to ours, which qemu-img reads and finds sound."""
    folder = twins.b
    assert theirs(folder, "convert", "-f", "raw", "-O", source, "source.raw", "from").status == 0
    assert ours(folder, "convert", "-f", source, "-O", target, "from", "to").status == 0
    answer = theirs(folder, "compare", "-f", "raw", "-F", target, "source.raw", "to")
    assert answer.status == 0, answer
    assert theirs(folder, "check", "-f", target, "to").status in (0, 63)
