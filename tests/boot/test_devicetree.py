"""Device trees: what is made is what dtc reads, what dtc makes is read, damage is said."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from exuvia.boot.devicetree import DeviceTreeError, Tree, cells, strings, wide

SOURCE = """/dts-v1/;
/memreserve/ 0x0000000040000000 0x0000000000001000;
/ {
\t#address-cells = <0x02>;
\tcompatible = "exuvia,test", "linux,dummy-virt";
\tclock {
\t\tphandle = <0x01>;
\t};
\tsoc@0 {
\t\tranges;
\t\tserial@9000000 {
\t\t\treg = <0x00 0x9000000 0x00 0x1000>;
\t\t\tclocks = <0x01>;
\t\t};
\t};
};
"""


def made() -> Tree:
    tree = Tree()
    tree.reserved.append((0x40000000, 0x1000))
    tree.root.set("#address-cells", 2).set("compatible", strings("exuvia,test", "linux,dummy-virt"))
    clock = tree.root.child("clock")
    handle = tree.phandle(clock)
    assert tree.phandle(clock) == handle == 1
    tree.node("/soc@0").set("ranges")
    tree.node("/soc@0/serial@9000000").set("reg", wide(0x9000000, 0x1000)).set("clocks", handle)
    return tree


def dtc(source: bytes, to: str, of: str) -> bytes:
    if shutil.which("dtc") is None:
        pytest.skip("dtc is not installed")
    return subprocess.run(["dtc", "-q", "-I", of, "-O", to], input=source, capture_output=True, check=True).stdout


def squeezed(source: str) -> list[str]:
    return [" ".join(line.split()) for line in source.replace("\\0", '", "').splitlines() if line.strip()]


def test_what_is_made_is_what_dtc_reads() -> None:
    assert squeezed(dtc(made().pack(), "dts", "dtb").decode()) == squeezed(SOURCE)


def test_what_dtc_makes_is_read() -> None:
    tree = Tree.unpack(dtc(SOURCE.encode(), "dtb", "dts"))
    assert tree.root == made().root
    assert tree.reserved == [(0x40000000, 0x1000)]


def test_there_and_back() -> None:
    packed = made().pack()
    tree = Tree.unpack(packed + b"behind it")
    assert tree.pack() == packed
    tree.node("/chosen").set("bootargs", "quiet")
    again = Tree.unpack(tree.pack())
    assert again.node("/chosen").text("bootargs") == "quiet"
    assert again.node("/chosen").text("nothing") == ""
    assert again.root.properties["#address-cells"] == cells(2)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 0, "does not begin with"),
        (4, 1 << 20, "cut off"),
        (8, 2, "outside"),
        (24, 99, "version|outside"),
        (36, 8, "ends too soon"),
        (32, 1, "a name"),
    ],
)
def test_damaged_headers(at: int, value: int, message: str) -> None:
    packed = bytearray(made().pack())
    packed[at : at + 4] = value.to_bytes(4, "big")
    with pytest.raises(DeviceTreeError, match=message):
        Tree.unpack(bytes(packed))
    with pytest.raises(DeviceTreeError, match="too short"):
        Tree.unpack(bytes(packed[:30]))


def test_damage_anywhere_is_an_error_or_another_tree() -> None:
    packed = made().pack()
    chance = random.Random(3)
    for _ in range(3000):
        damaged = bytearray(packed)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(packed))] = chance.choice((0, 1, 2, 3, 0xFF, chance.randrange(256)))
        try:
            Tree.unpack(bytes(damaged)).pack()
        except DeviceTreeError:
            pass


def test_names_that_share_a_long_text() -> None:
    """Each property's would be a megabyte of its own."""
    names, body = b"n" * 1_000_000 + b"\0", cells(1, 0) + b"".join(cells(3, 0, at) for at in range(50_000)) + cells(2, 9)
    head = cells(0xD00DFEED, 56 + len(body) + len(names), 56, 56 + len(body), 40, 17, 16, 0, len(names), len(body))
    with pytest.raises(DeviceTreeError, match="a name does not end"):
        Tree.unpack(head + bytes(16) + body + names)


def test_a_tree_without_bottom() -> None:
    body = cells(1, 0) * 100_000
    head = cells(0xD00DFEED, 56 + len(body), 56, 56 + len(body), 40, 17, 16, 0, 0, len(body))
    with pytest.raises(DeviceTreeError, match="nested"):
        Tree.unpack(head + bytes(16) + body)
