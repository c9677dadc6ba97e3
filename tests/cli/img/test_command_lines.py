"""Command lines, right and wrong ones, on raw images: what is printed and the status are qemu-img's."""

import shlex
from pathlib import Path

import pytest

from tests.cli.img.twins import Twins, needs_qemu

# one command line each, run one after the other in the same folders; `!` before it: what goes to standard error is alike too
LINES = """
!
!nonsense
!--nonsense
!create
!create -f raw
!create x
!create -f nope x 1G
!create -q -f raw x 1G 2G
!create -f raw x 1Q
!create -f raw x -1
create -f raw x 0
create -f raw x 1.5k
create -f raw x 0x1000
create -f raw x 5.k
create -f raw x +1M
create -f raw x 1.0
create -f raw x ' 1k'
!create -f raw x .5k
!create -f raw x 0.1
!create -f raw x '1k '
!create -f raw x ١
!create -f raw x 18446744073709551616
!create -f raw x 9.5E
create -f raw -o nonocow x 1k
create -f raw -o nocow=1 x 1k
create -f raw -o '' x 1k
create -f raw -o nocow=on, x 1k
create -f raw -o help x
create -f raw -o help
create -o help
!create -f raw -o nope=1 x 1M
create -f raw -o size=1M x
!create -f raw -o size=1M x 2M
!create -f raw -b r.raw -F raw x
!create -F raw x 1M
create -f raw -o preallocation=nope x 1M
info odd.raw
info --output=json odd.raw
create -o extent_size_hint=1M,nocow=on,preallocation=off x 1k
create -f raw -o preallocation=full x 1M
create -fraw -opreallocation=falloc,nocow=on x 1M
info x
!create -z x 1M
!create --nope x
!create -f
!create -f raw /nodir/x 1M
!create -f raw x 8E
create -f raw x 1000
info x
create -f raw -q x 64k
!create --object secret,id=a,data=b x 1k
!create --object nope x 1k
!create --object secret,data=c x 1k
!create --object secret,id=1,data=c x 1k
create -f raw 'a"b c' 1k
create -f raw a,b 1k
create x1
info r.raw
info --output=json r.raw
info --output json --backing-chain r.raw
info --backing-chain r.raw
info -fraw r.raw
!info --output=xml r.raw
!info --output json
!info a b
!info nofile
info --image-opts driver=raw,file.filename=r.raw
info --image-opts driver=raw,file.filename=r.raw,cache.direct=on,cache.no-flush=off,discard=unmap,detect-zeroes=on,file.aio=io_uring
!convert --image-opts -O raw driver=raw,file.filename=r.raw,discard=nonsense x
!create -f dmg -o help
info --image-opts driver=raw,offset=512,size=1024,file.filename=r.raw
info 'json:{"driver":"raw","file":{"driver":"file","filename":"r.raw"}}'
info 'json:{"driver":"raw","file.filename":"r.raw"}'
info -- r.raw
info file:r.raw
create -f raw file:a:b.raw 1k
info file:a:b.raw
!info ./a:b.raw
map file:a:b.raw
create -f raw 'ü ñ.raw' 1k
info --output=json 'ü ñ.raw'
!info ''
info -f '' r.raw
convert -f file -O raw r.raw x
compare -f file -F raw x r.raw
info /dev/null
!convert r.raw /dev/null
convert -n -f raw -O raw r.raw /dev/null
convert -O qcow2 r.raw r.qcow2
convert --image-opts driver=file,filename=r.qcow2 -O raw bytes
convert 'json:{"driver":"file","filename":"r.qcow2"}' -O raw bytes2
convert -f raw -O raw r.qcow2 bytes3
compare -f raw -F raw bytes bytes3
compare -f raw -F raw bytes2 bytes3
info --image-opts -f raw r.raw
info -x
info -qz r.raw
info --bac r.raw
info -U r.raw
info .
info -f nope r.raw
info json:nope
info nope:x
info --image-opts r.raw
map r.raw
map -f raw r.raw
map --output=json r.raw
map --output=json -s 5k r.raw
map --output=json -s 5k -l 100k r.raw
map --start-offset=9M --max-length=1M r.raw
map --start-offset=90M r.raw
map --output=json --start-offset=90M r.raw
map --max-length=-1 r.raw
!map q.qcow2 x
!map
!map -s x r.raw
map --output=json odd.raw
map -U odd.raw
resize r.raw
!resize r.raw 5M
resize --shrink r.raw 5M
resize r.raw +5M
!resize -f raw r.raw +5M
resize -f raw --shrink r.raw -- -1M
resize -f raw --shrink r.raw -1M
resize -f raw r.raw 14M
!resize -f raw r.raw 0
!resize -f raw r.raw x
!resize -f raw --preallocation=foo r.raw 20M
resize -f raw --preallocation=full r.raw 20M
resize -f raw --preallocation=falloc r.raw 21M
resize -f raw --preallocation=metadata r.raw 30M
!resize -f raw --preallocation=full --shrink r.raw 10M
!resize -q -f raw r.raw 10M
resize -f raw --shrink r.raw 10M
resize -q -f raw r.raw 10M
!resize -f raw r.raw -100M
!resize
resize --image-opts driver=raw,file.filename=r.raw 10M
map --output=json r.raw
snapshot -l r.raw
!snapshot -c a r.raw
!snapshot -c a -d b r.raw
snapshot r.raw
!snapshot
!snapshot -U -c x r.raw
!snapshot -d x r.raw
snapshot -a x r.raw
!check r.raw
!check -r foo r.raw
!check -T x r.raw
!check
!check --output=xml r.raw
!check -r all -f raw r.raw
check -q r.raw
!check nofile
compare r.raw same.raw
compare -s r.raw r.raw
compare r.raw other.raw
compare r.raw longer.raw
compare longer.raw r.raw
compare -s r.raw longer.raw
compare -s r.raw longer_data.raw
compare -s r.raw other.raw
compare -s -p other.raw r.raw
compare -s odd.raw r.raw
compare -p r.raw longer_data.raw
compare r.raw longer_data.raw
compare odd.raw r.raw
!compare r.raw
!compare a b c
compare r.raw nofile
compare -q r.raw other.raw
compare -f qcow2 r.raw other.raw
compare -F qcow2 r.raw other.raw
compare -T foo r.raw other.raw
compare -p r.raw longer.raw
compare -p r.raw other.raw
compare -p -q r.raw other.raw
!compare --nope
compare -U r.raw r.raw
!measure
!measure -f raw --size 1M
!measure -O nope --size 1M
!measure r.raw --size 1M
!measure a b
!measure -l x r.raw
measure -O raw r.raw
measure odd.raw
measure --output=json odd.raw
!measure --size -1
!measure --size=foo
!measure nofile
measure -o nope=1 --size 1M
!measure -U --size 1
measure --object secret,id=a,data=b --size 1k
measure --size 1000
dd
dd if=r.raw
!dd if=r.raw of=y bs=0
dd if=r.raw of=y bs=1M count=2 skip=1
!dd if=r.raw of=y bs=1M count=2 skip=3
info y
dd if=r.raw of=y bs=1M skip=1
info y
!dd if=r.raw of=y bs=1M skip=11
info y
!dd if=r.raw of=y bs=x
!dd if=r.raw of=y foo
!dd if=r.raw of=y foo=1
!dd if=nofile of=y
dd if=odd.raw of=y bs=300 skip=1
info y
dd if=odd.raw of=y bs=300 count=1
info y
dd if=r.raw of=y bs=1M count=0
info y
!dd if=r.raw of=y count=1x
dd -f raw -O raw if=r.raw of=y bs=64k
compare y r.raw
bench -c 10 -d 2 -s 1k -q r.raw
bench -c 10 -d 3 r.raw
!bench
bench -c 0 r.raw
!bench -c x r.raw
!bench -d x r.raw
!bench -o x r.raw
!bench -s x r.raw
!bench -S x r.raw
!bench --flush-interval=2 r.raw
!bench -w --flush-interval=2 -d 4 -c 10 -f raw r.raw
bench -w --flush-interval=4 -d 4 -c 10 -f raw scratch.raw
bench -w --flush-interval=4 -d 4 -c 10 --no-drain -f raw scratch.raw
!bench --pattern=300 r.raw
!bench -i foo r.raw
bench -c 100 -o 9M -f raw r.raw
bench -c 100 -s 20M r.raw
bench -c 10 -o 11M r.raw
!bench -t foo r.raw
!bench -w -U -f raw r.raw
bench -f raw -w -c 10 --pattern=7 scratch.raw
compare scratch.raw r.raw
!bitmap
!bitmap r.raw b
bitmap --add -f raw r.raw b
!bitmap --clear -g 64k r.raw d
!bitmap --clear -b x r.raw b
!bitmap --merge b -F qcow2 r.raw b
amend r.raw
!amend -f raw -o x=1 r.raw
!amend -f raw -o help r.raw
!amend -o help
!amend -f nope -o help x
!commit
!commit -f raw r.raw
!commit -r x r.raw
!commit -t foo r.raw
!commit nofile
!rebase
!rebase r.raw
!rebase -f raw -b same.raw -F raw r.raw
!rebase -t foo -b same.raw -f raw r.raw
!rebase -T foo -b same.raw -f raw r.raw
!rebase -b same.raw -F nope -f raw r.raw
!convert
!convert a
!convert nofile x
!convert -O nope r.raw x
convert -f nope r.raw x
!convert -O raw r.raw /nodir/x
!convert -c -O raw r.raw x
!convert -O raw -o nope=1 r.raw x
convert -O raw odd.raw x
info x
convert -O raw odd.raw odd.raw r.raw x
info x
convert -n -O raw r.raw x
!convert -n -O raw other.raw tiny.raw
!convert -n -O raw r.raw nofile
convert -S 0 -O raw r.raw x
convert -S 1k -O raw r.raw x
!convert -S 513 r.raw x
!convert -S 5G r.raw x
!convert -S x r.raw x
!convert -m 0 r.raw x
!convert -m 17 r.raw x
!convert -m x r.raw x
convert -m 16 -W r.raw x
!convert -C -S 4k r.raw x
!convert --target-is-zero r.raw z
!convert --target-image-opts r.raw driver=raw,file.filename=z
convert -n --target-image-opts r.raw driver=raw,file.filename=x
!convert -n --target-image-opts -O raw r.raw driver=raw,file.filename=x
!convert -n -o size=1 r.raw x
!convert -l x r.raw x
!convert -t foo r.raw x
!convert -T foo r.raw x
!convert -r x r.raw x
convert -r 100M r.raw x
convert -p r.raw x
convert -p -q r.raw x
convert --salvage r.raw x
!convert -C --salvage r.raw x
!convert --skip-broken-bitmaps r.raw x
convert r.raw r.raw
convert -t none -T none r.raw x
convert -t writethrough r.raw x
!convert -O raw -B r.raw -F raw same.raw z
!convert -l a r.raw same.raw x
convert -C r.raw x
compare -s x x
convert -o preallocation=full r.raw x
convert -o size=12M r.raw x
compare x r.raw
convert --image-opts driver=raw,file.filename=r.raw x
convert . x
"""


def words_of(line: str) -> list[str]:
    """The words of a line of LINES."""
    return shlex.split(line.removeprefix("!"))


def raw(length: int, *data: tuple[int, bytes]) -> bytes:
    """Zeros with data in them."""
    content = bytearray(length)
    for offset, piece in data:
        content[offset : offset + len(piece)] = piece
    return bytes(content)


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    """Folders with raw images in them."""
    pair = Twins(tmp_path)
    first = raw(10 << 20, (0, b"first"), (700000, b"abc" * 50000), (9 << 20, bytes(range(256)) * 1000))
    pair.both("r.raw", first)
    pair.both("same.raw", first)
    pair.both("scratch.raw", first)
    pair.both("other.raw", raw(10 << 20, (0, first[: 9 << 20]), (9 << 20, b"\1" * 4096)))
    pair.both("longer.raw", first + bytes(1 << 20))
    pair.both("longer_data.raw", first + bytes(1 << 20) + b"x" * 512)
    pair.both("odd.raw", first[:1000])
    pair.both("tiny.raw", first[:512])
    pair.give()
    return pair


@needs_qemu
def test_lines(twins: Twins) -> None:
    """All of them; every failure is told."""
    failures = []
    for line in LINES.strip("\n").split("\n"):
        try:
            twins.same(*words_of(line), errors=line.startswith("!"))
        except AssertionError as error:
            failures.append(f"exuvia-img {line}\n{error}")
    assert not failures, "\n\n".join(failures)
