"""Images that stand on one another, snapshots inside images, bitmaps: command lines on qcow2 are answered as qemu-img does."""

from pathlib import Path

import pytest

from exuvia.disk.graph import FORMATS
from tests.cli.img.test_command_lines import raw, words_of
from tests.cli.img.twins import Twins, io_write, needs_qemu, ours
from tests.disk.formats.interchange import qemu

pytestmark = [needs_qemu, pytest.mark.skipif("qcow2" not in FORMATS, reason="there is no qcow2 yet")]

CREATE = """
create -f qcow2 x 1M
create -f qcow2 -o help x
create -f qcow2 -o help
create -f qcow2 -o cluster_size=4k,lazy_refcounts=on x 1000
info x
!create -f qcow2 -b nofile x 1M
!create -f qcow2 -b nofile -F raw x 1M
!create -f qcow2 -b nofile -F raw x
create -f qcow2 -b base.raw x
!create -f qcow2 -u -b base.raw x
!create -f qcow2 -u -b base.raw -F raw x
create -f qcow2 -u -b nofile -F raw x 1M
info x
info --output=json x
create -f qcow2 -b q.qcow2 -F qcow2 -o backing_file=base.raw y
info --backing-chain y
info --image-opts driver=qcow2,file.filename=q.qcow2,discard=ignore,cache-size=1M,overlap-check=all,file.node-name=x
info --backing-chain --output=json y
create -f qcow2 -b q.qcow2 -F nope y
!create -f qcow2 -F raw y 1M
create -f qcow2 -b base.raw -F raw -o backing_fmt=qcow2 y
create -f qcow2 -b q.qcow2 -F raw y
info y
!create -f qcow2 -b y -F qcow2 y
!create -f qcow2 -o cluster_size=5 y 1M
create -f qcow2 -o preallocation=metadata y 1M
map --output=json y
create -f qcow2 -o compat=0.10 y 1M
info y
create -f qcow2 -o refcount_bits=1 y 1M
create -f qcow2 -o nolazy_refcounts y 1M
!create -f qcow2 -o lazy_refcounts=1 y 1M
create -f raw -q 'ü b.raw' 1M
create -f qcow2 -b 'ü b.raw' -F raw y
info --output=json y
create -f raw file:c:d.raw 1M
create -f qcow2 -b file:c:d.raw -F raw y
info y
map --output=json y
create -f qcow2 -o extended_l2=on y 1M
info --output=json y
"""

CHAINS = """
info q.qcow2
info p.qcow2
info --backing-chain p.qcow2
map p.qcow2
map --output=json p.qcow2
map -s 1M -l 1M --output=json p.qcow2
map --output=json q.qcow2
map --output=json --image-opts driver=qcow2,file.filename=q.qcow2,backing=
check p.qcow2
check --output=json p.qcow2
compare p.qcow2 q.qcow2
compare q.qcow2 base.raw
compare -s q.qcow2 p.qcow2
compare p.qcow2 p.qcow2
compare -f qcow2 -F raw p.qcow2 base.raw
measure -O qcow2 p.qcow2
measure -O qcow2 --output=json p.qcow2
measure -O raw p.qcow2
measure -O qcow2 --size 10G
measure -O qcow2 -o cluster_size=1M --size 10G
measure -O qcow2 -o preallocation=full --size 1G
measure -O qcow2 -o cluster_size=4k,refcount_bits=64 --size 1G
measure -O qcow2 base.raw
!commit -b nofile p.qcow2
!rebase -b other.raw p.qcow2
rebase -b other.raw -F raw q.qcow2
info q.qcow2
map --output=json q.qcow2
!rebase -u -b foo q.qcow2
rebase -u -b foo -F raw q.qcow2
info q.qcow2
rebase -b other.raw -F raw q.qcow2
rebase -u -b other.raw -F raw q.qcow2
!rebase -b nofile -F raw q.qcow2
rebase -p -b '' q.qcow2
info q.qcow2
rebase -q -b base.raw -F raw q.qcow2
rebase -b base.raw -F raw p.qcow2
rebase -u -b q.qcow2 -F qcow2 p.qcow2
rebase -b base.raw -F raw p.qcow2
info p.qcow2
rebase -b q.qcow2 -F qcow2 q.qcow2
resize p.qcow2 12M
resize q.qcow2 +1M
resize --shrink q.qcow2 9M
info q.qcow2
check q.qcow2
commit -p p.qcow2
info p.qcow2
compare -s p.qcow2 base.raw
create -f qcow2 -b q.qcow2 -F qcow2 n.qcow2
commit -d n.qcow2
commit -q n.qcow2
commit -b base.raw n.qcow2
!commit -b nofile n.qcow2
convert -O qcow2 -B base.raw -F raw q.qcow2 z
info z
map --output=json z
!convert -O qcow2 -B base.raw q.qcow2 z
convert -n -B base.raw -F raw -O qcow2 q.qcow2 z
!convert -B nofile -F raw -O qcow2 q.qcow2 zz
!convert -F raw -O qcow2 q.qcow2 zz
convert -c -O qcow2 q.qcow2 z
check z
convert -O raw z z.raw
!convert -c -O qcow2 -o preallocation=full q.qcow2 z
!convert -O qcow2 -o backing_file=base.raw q.qcow2 z
convert -O qcow2 -o backing_file=base.raw,backing_fmt=raw q.qcow2 z
!convert --target-is-zero -n -O qcow2 q.qcow2 nofile
convert -O qcow2 -o cluster_size=512 q.qcow2 z
convert -S 0 -O qcow2 q.qcow2 z
check --output=json z
convert -O qcow2 q.qcow2 base.raw z
compare z q.qcow2
"""

SNAPSHOTS = """
snapshot -c first q.qcow2
snapshot -l q.qcow2
info q.qcow2
info --output=json q.qcow2
snapshot -c second q.qcow2
!snapshot -a nope q.qcow2
!snapshot -d nope q.qcow2
snapshot -a 1 q.qcow2
check q.qcow2
convert -l first -O raw q.qcow2 first.raw
convert -l snapshot.name=second -O raw q.qcow2 second.raw
convert -l snapshot.id=1,snapshot.name=first -O raw q.qcow2 first.raw
!convert -l snapshot.nope=1 -O raw q.qcow2 first.raw
!convert -l snapshot.name=nope -O raw q.qcow2 first.raw
measure -l first -O raw q.qcow2
snapshot -d first q.qcow2
snapshot -l q.qcow2
snapshot -d 2 q.qcow2
snapshot -l q.qcow2
check q.qcow2
"""

BITMAPS = """
bitmap --add q.qcow2 b
info q.qcow2
info --output=json q.qcow2
!bitmap --add q.qcow2 b
!bitmap --merge c q.qcow2 b
!bitmap --remove q.qcow2 c
!bitmap --add -g 5 q.qcow2 d
create -q -f qcow2 -o compat=0.10 old 1M
!bitmap --add -g 5 old d
!convert --bitmaps -O qcow2 old z
measure -O qcow2 old
bitmap --add -g 1M q.qcow2 d
bitmap --clear --disable q.qcow2 b
info q.qcow2
bitmap --merge d --enable q.qcow2 b
bitmap --merge b -b q.qcow2 -F qcow2 other.qcow2 b
bitmap --add --merge b -b q.qcow2 -F qcow2 other.qcow2 b
info other.qcow2
!bitmap --add q.qcow2 ''
bitmap --remove q.qcow2 d
convert --bitmaps -O qcow2 q.qcow2 z
info z
check z
!convert --bitmaps -O raw q.qcow2 z.raw
!convert --bitmaps -O qcow2 base.raw z
measure -O qcow2 q.qcow2
measure -O qcow2 --output=json q.qcow2
amend -o compat=1.1 q.qcow2
!snapshot -a nope q.qcow2
"""

AMENDS = """
amend -f qcow2 -o help
amend -o help q.qcow2
amend -o lazy_refcounts=on q.qcow2
info q.qcow2
amend -o compat=0.10 q.qcow2
info q.qcow2
!amend -o nope=1 q.qcow2
!amend -o cluster_size=4k q.qcow2
amend -p -o compat=1.1 q.qcow2
amend -o size=20M q.qcow2
info q.qcow2
check q.qcow2
!amend -o compat=9 q.qcow2
create -f qcow2 -o compression_type=zstd z.qcow2 1M
amend -o compat=0.10 z.qcow2
info z.qcow2
check z.qcow2
convert -c -O qcow2 -o compression_type=zstd q.qcow2 z.qcow2
!amend -o compat=0.10 z.qcow2
info z.qcow2
amend -o refcount_bits=8 q.qcow2
info q.qcow2
check q.qcow2
"""


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    """p.qcow2 stands on q.qcow2, which stands on base.raw; all of them hold something of their own."""
    pair = Twins(tmp_path)
    pair.both("base.raw", raw(10 << 20, (0, b"first"), (700000, b"abc" * 50000), (9 << 20, bytes(range(256)) * 1000)))
    pair.both("other.raw", raw(11 << 20, (0, b"first"), (2 << 20, b"xyz" * 50000), (9 << 20, bytes(range(256)) * 1000)))
    for name, size, below, format in (("q.qcow2", "10M", "base.raw", "raw"), ("p.qcow2", "11M", "q.qcow2", "qcow2")):
        made = twin_create(pair, name, size, below, format)
        assert made == 0
    twin_create(pair, "other.qcow2", "10M", "base.raw", "raw")
    io_write(pair.a, "q.qcow2", "qcow2", "write -P 1 1M 200k", "write -z 8M 1M", "write -P 2 9M 4k")
    io_write(pair.a, "p.qcow2", "qcow2", "write -P 3 1030k 64k", "write -P 4 10500k 100k", "discard 3M 64k", "write -z 4M 64k")
    pair.give()
    return pair


def twin_create(pair: Twins, name: str, size: str, below: str, format: str) -> int:
    """An overlay, made by qemu-img."""
    from tests.cli.img.twins import theirs

    return theirs(pair.a, "create", "-q", "-f", "qcow2", "-b", below, "-F", format, name, size).status


@pytest.mark.parametrize("lines", [CREATE, CHAINS, SNAPSHOTS, BITMAPS, AMENDS], ids=["create", "chains", "snapshots", "bitmaps", "amend"])
def test_lines(twins: Twins, lines: str) -> None:
    """All of them; every failure is told, and in the end all images hold the same."""
    failures = []
    for line in lines.strip("\n").split("\n"):
        try:
            twins.same(*words_of(line), errors=line.startswith("!"))
        except AssertionError as error:
            failures.append(f"exuvia-img {line}\n{error}")
    for path in sorted(twins.b.iterdir()):
        try:
            if lines is not CREATE:  # most of those stand on nothing
                twins.content(path.name, path.suffix[1:] or "qcow2")
        except AssertionError as error:
            failures.append(f"{path.name}\n{error}")
    assert not failures, "\n\n".join(failures)


def test_a_circle_is_told_once(tmp_path: Path) -> None:
    assert ours(tmp_path, *"create -q -f qcow2 t 1M".split()).status == 0
    assert ours(tmp_path, *"rebase -u -b t -F qcow2 t".split()).status == 0
    answer = ours(tmp_path, "map", "t")
    assert (answer.status, answer.err.count("\n")) == (1, 1)
    assert len(answer.err) < 200 and "circle" in answer.err


def test_names_are_padded_as_bytes(tmp_path: Path) -> None:
    qemu("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "t", "1M")
    qemu("qemu-img", "snapshot", "-c", "ä ü", tmp_path / "t")
    assert ours(tmp_path, "snapshot", "-l", "t").out == qemu("qemu-img", "snapshot", "-l", tmp_path / "t")
