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


SECRETS = " ".join(f"--object secret,id={name},data={name * 3}" for name in "abcd")
SLOTS = """
state=active,new-secret=b,iter-time=10
state=active
new-secret=b
state=bogus,new-secret=c
state=active,new-secret=b,old-secret=a
state=active,new-secret=b,keyslot=9
state=active,new-secret=b,keyslot=0
state=active,new-secret=b,keyslot=1,iter-time=10
state=active,new-secret=z
state=active,new-secret=b,keyslot=x
--force state=active,new-secret=c,keyslot=1,iter-time=10
state=active,new-secret=d,iter-time=10
state=active,new-secret=d,keyslot=7,iter-time=10
state=inactive
state=inactive,new-secret=b
state=inactive,keyslot=1,iter-time=10
state=inactive,old-secret=b
state=inactive,old-secret=b,keyslot=1
state=inactive,old-secret=z
state=inactive,keyslot=9
--force state=inactive,keyslot=5
state=inactive,old-secret=d
state=inactive,keyslot=1
state=inactive,keyslot=0
state=inactive,old-secret=a
state=active,new-secret=b,iter-time=10
""".split("\n")[1:-1]


@pytest.mark.parametrize(("kind", "prefix"), [("luks", ""), ("qcow2", "encrypt.")])
def test_passphrases_come_and_go(tmp_path: Path, kind: str, prefix: str) -> None:
    """amend says what qemu-img says; afterwards each opens what the other changed, with the passphrases that are left."""
    twins = Twins(tmp_path)
    twins.both("source.raw", raw(1 << 20, (5000, b"content" * 999)))
    options = f"{prefix}key-secret=a,{prefix}iter-time=10" + (",encrypt.format=luks" if prefix else "")
    assert theirs(twins.a, *words_of(f"convert {SECRETS} -O {kind} -o {options} source.raw x")).status == 0
    shutil.copy(twins.a / "x", twins.b / "x")
    opened = f"--image-opts driver={kind},file.filename=x,{prefix}key-secret="
    failures = []
    for line in SLOTS:
        force, _, said = line.rpartition(" ")
        said = ",".join(prefix + option for option in said.split(","))
        if prefix and "keyslot=x" in said:
            continue
        try:
            twins.same(*words_of(f"amend {SECRETS} {force} {opened}a -o {said}"), errors=True)
        except AssertionError as error:
            failures.append(f"amend -o {line}\n{error}")
    assert not failures, "\n\n".join(failures)
    for name, status in (("a", 0), ("b", 0), ("c", 1), ("d", 1)):
        words = words_of(f"convert {SECRETS} {opened}{name} -O raw y")
        assert theirs(twins.b, *words).status == status, name
        assert ours(twins.a, *words).status == status, name
        if not status:
            assert (twins.a / "y").read_bytes() == (twins.b / "y").read_bytes() == (twins.a / "source.raw").read_bytes()
    last = words_of(f"amend {SECRETS} --force {opened}a -o {prefix}state=inactive,{prefix}old-secret=a")
    assert theirs(twins.a, *last).status == ours(twins.b, *last).status == 0
    assert ours(twins.b, *words_of(f"map {SECRETS} {opened}a")).status == 1


def test_without_the_secret(tmp_path: Path) -> None:
    """All but `info` want it, also where only tables are read."""
    twins = Twins(tmp_path)
    for kind, options in (
        ("luks", "key-secret=s,iter-time=10"),
        ("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"),
        ("qcow", "encrypt.format=aes,encrypt.key-secret=s"),
    ):
        assert theirs(twins.a, *words_of(f"create {SECRET} -f {kind} -o {options} {kind} 1M")).status == 0
        shutil.copy(twins.a / kind, twins.b / kind)
        for command in ("info", "check", "map", "snapshot -l", "measure -O raw", "resize", "convert -O raw", "amend"):
            rest = {"resize": " 2M", "convert -O raw": " out", "amend": " -o size=2M"}.get(command, "")
            twins.same(*words_of(f"{command} -f {kind} {kind}{rest}"), errors=True)
