"""Secrets on command lines: encrypted images are made, converted and compared as by qemu-img."""

import shutil
from pathlib import Path

import pytest

from exuvia.disk.graph import FORMATS
from tests.cli.img.test_command_lines import raw, words_of
from tests.cli.img.twins import Twins, needs_qemu, ours, theirs

pytest.importorskip("cryptography")
pytestmark = [needs_qemu, pytest.mark.skipif("luks" not in FORMATS, reason="there is no luks yet")]

SECRET = "--object secret,id=s,data=open-sesame"
LUKS = "driver=luks,key-secret=s,file.filename"
QCOW2 = "driver=qcow2,encrypt.key-secret=s,file.filename"
LINES = f"""
create -f luks -o help
!create -f luks x 1M
create -f luks -o key-secret=s x 1M
info --image-opts {SECRET} {LUKS}=t,size=1
map --output=json --image-opts {SECRET} {LUKS}=t
compare {SECRET} --image-opts {LUKS}=l driver=raw,file.filename=source.raw
compare {SECRET} --image-opts {LUKS}=t driver=raw,file.filename=source.raw
convert {SECRET} --image-opts -O raw {LUKS}=t plain.raw
compare plain.raw source.raw
measure {SECRET} -O luks -o key-secret=s --size 1G
info --image-opts --object secret,id=s,data=***,format=base64 {LUKS}=t
!info --object secret,id=s,data=a --object secret,id=s,data=b t
convert --object secret,id=s,data=wrong --image-opts -O raw {LUKS}=t wrong.raw
convert {SECRET} -n --target-image-opts source.raw {LUKS}=l
compare {SECRET} --image-opts {LUKS}=l driver=raw,file.filename=source.raw
resize {SECRET} --image-opts {LUKS}=t 24M
compare {SECRET} --image-opts {LUKS}=t driver=raw,file.filename=source.raw
info q
info --image-opts {SECRET} {QCOW2}=q
map --output=json --image-opts {SECRET} {QCOW2}=q
compare {SECRET} --image-opts {QCOW2}=q driver=raw,file.filename=source.raw
convert {SECRET} --image-opts -O raw {QCOW2}=q plain.raw
compare plain.raw source.raw
convert -O raw q plain.raw
resize {SECRET} --image-opts {QCOW2}=q 22M
compare {SECRET} --image-opts {QCOW2}=q driver=raw,file.filename=source.raw
convert -c {SECRET} -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s source.raw f
"""


def test_lines(tmp_path: Path) -> None:
    """The same answers, and what either made the other reads."""
    twins = Twins(tmp_path)
    twins.both("source.raw", raw(20 << 20, (0, b"first"), (700000, b"abc" * 50000), (9 << 20, bytes(range(256)) * 1000)))
    for name in ("t", "l"):
        made = words_of(f"convert {SECRET} -O luks -o key-secret=s,iter-time=10 source.raw {name}")
        assert theirs(twins.a, *made).status == 0
        if name == "t":
            twins.give()
    assert ours(twins.b, *made).status == 0
    made = words_of(f"convert {SECRET} -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 source.raw q")
    assert ours(twins.b, *made).status == 0
    shutil.copy(twins.b / "q", twins.a / "q")
    failures = []
    for line in LINES.strip("\n").split("\n"):
        try:
            twins.same(*words_of(line), errors=line.startswith("!"))
        except AssertionError as error:
            failures.append(f"exuvia-img {line}\n{error}")
    both = words_of(f"compare {SECRET} --image-opts {LUKS}=a/l {LUKS}=b/l")
    if theirs(tmp_path, *both).status or ours(tmp_path, *both).status:
        failures.append("what qemu-img made and what we made differ")
    assert not failures, "\n\n".join(failures)
