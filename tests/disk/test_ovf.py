"""Appliances: disks read where they lie, settings, manifests, and what is wrong with bad ones."""

import hashlib
import io
import random
import tarfile
from pathlib import Path

import pytest

from exuvia.disk.graph import open_image
from exuvia.disk.ovf import Appliance
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import content, needs_qemu, qemu

OVF = """<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
  <References><File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="1"/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:capacity="6" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1" ovf:fileRef="file1"
      ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
    <Disk ovf:capacity="1" ovf:capacityAllocationUnits="GigaBytes" ovf:diskId="scratch"/>
  </DiskSection>
  <VirtualSystem ovf:id="vm"><Name>Web server</Name>
    <OperatingSystemSection ovf:id="96"><Info/><Description>Debian 12 (64-bit)</Description></OperatingSystemSection>
    <VirtualHardwareSection><Info/>
      <Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>1536</rasd:VirtualQuantity></Item>
      <Item><rasd:Connection>bridged</rasd:Connection><rasd:ResourceSubType>E1000</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection></VirtualSystem>
</Envelope>
"""


def disk(folder: Path) -> tuple[bytes, bytes]:
    """A stream as qemu-img makes it, and what it holds."""
    model = content(random.Random(8), 6 << 20)
    (folder / "model.raw").write_bytes(model)
    qemu("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", folder / "model.raw", folder / "disk1.vmdk")
    return bytes(model), (folder / "disk1.vmdk").read_bytes()


def ova(folder: Path, files: dict[str, bytes]) -> str:
    """The tar file of them."""
    path = folder / "a.ova"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


@needs_qemu
def test_a_disk_is_opened_where_it_lies(tmp_path: Path) -> None:
    model, packed = disk(tmp_path)
    manifest = f"SHA256(a.ovf)= 00\nSHA256(disk1.vmdk)= {hashlib.sha256(packed).hexdigest()}\n"
    appliance = Appliance(ova(tmp_path, {"a.ovf": OVF.encode(), "a.mf": manifest.encode(), "disk1.vmdk": packed}))
    first, empty = appliance.disks
    assert (first.id, first.capacity, first.file, first.format) == ("vmdisk1", 6 << 20, "disk1.vmdk", "vmdk")
    assert (empty.id, empty.capacity, empty.file) == ("scratch", 1 << 30, "")
    with open_image(appliance.describe(first)) as node:
        assert (node.name, node.read(0, node.size)) == ("vmdk", model)
    appliance.extract(appliance.disk("disk1.vmdk"), str(tmp_path / "out.vmdk"))
    assert (tmp_path / "out.vmdk").read_bytes() == packed
    with pytest.raises(UserError, match="is there already"):
        appliance.extract(first, str(tmp_path / "out.vmdk"))
    with pytest.raises(UserError, match="has no file: it is an empty disk"):
        appliance.extract(empty, str(tmp_path / "x"))
    with pytest.raises(UserError, match="unknown disk in .*'vmdisk2'"):
        appliance.disk("vmdisk2")
    (system,) = appliance.systems
    assert (system.name, system.system, system.processors, system.memory) == ("Web server", "Debian 12 (64-bit)", 2, 1536 << 20)
    assert system.networks == [("bridged", "E1000")]


@needs_qemu
def test_files_beside_the_descriptor(tmp_path: Path) -> None:
    model, packed = disk(tmp_path)
    (tmp_path / "a.ovf").write_text(OVF)
    (tmp_path / "a.mf").write_text(f"SHA1(disk1.vmdk)= {hashlib.sha1(packed).hexdigest()}\n")
    appliance = Appliance(str(tmp_path / "a.ovf"))
    with open_image(appliance.describe(appliance.disks[0])) as node:
        assert node.read(0, node.size) == model
    (tmp_path / "disk1.vmdk").write_bytes(packed[:-1] + b"!")
    with pytest.raises(UserError, match="disk1.vmdk is damaged: its sha1 is not what the manifest says"):
        appliance.extract(appliance.disks[0], str(tmp_path / "out.vmdk"))
    assert not (tmp_path / "out.vmdk").exists()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("<Envelope", "<Enveloop", "the descriptor is damaged"),
        ('encoding="UTF-8"?>', 'encoding="UTF-8"?><!DOCTYPE x [<!ENTITY a "aaaa">]>', "it declares a document type"),
        ('ovf:fileRef="file1"', 'ovf:fileRef="file2"', "is in file file2, which is not declared"),
        ('ovf:href="disk1.vmdk"', 'ovf:href="../../etc/passwd"', "which is not beside the descriptor"),
        ('ovf:href="disk1.vmdk"', 'ovf:href="http://host/x"', "which is not beside the descriptor"),
        ('ovf:href="disk1.vmdk"', 'ovf:href="x" ovf:compression="gzip"', "x is compressed or in pieces"),
        ('ovf:href="disk1.vmdk"', 'ovf:href="missing.vmdk"', "disk vmdisk1 is missing: missing.vmdk"),
        ('ovf:capacity="6"', 'ovf:capacity="99999999999999999"', "which cannot be"),
    ],
)
def test_bad_descriptors(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        Appliance(ova(tmp_path, {"a.ovf": OVF.replace(old, new).encode(), "disk1.vmdk": b""}))


def test_what_is_no_appliance(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"neither an .ova nor an .ovf"):
        Appliance(str(tmp_path / "x"))
    with pytest.raises(UserError, match=r"there is no .ovf in it"):
        Appliance(ova(tmp_path, {"a.txt": b"x"}))


def test_hostile_tar_files(tmp_path: Path) -> None:
    """Cut off anywhere, or with any byte of a header changed: one line or an appliance."""
    whole = Path(ova(tmp_path, {"a.ovf": OVF.encode(), "disk1.vmdk": bytes(3000)})).read_bytes()
    path, rng = tmp_path / "bad.ova", random.Random(0)
    second = whole.index(b"disk1.vmdk", 512 + len(OVF) - 100)
    for number in range(400):
        bad = bytearray(whole)
        if number < 40:
            del bad[number * 256 :]
        else:
            at = rng.choice((rng.randrange(512), second + rng.randrange(512), 512 + rng.randrange(len(OVF))))
            bad[at : at + 8] = rng.choice((b"\x80\xff\xff\xff\xff\xff\xff\xff", rng.randbytes(2), b"\xff" * 12, b"S", b"x", b"L"))
            for place in (0, second):  # the sums are right
                bad[place + 148 : place + 156] = b" " * 8
                bad[place + 148 : place + 156] = b"%06o\0 " % sum(bad[place : place + 512])
        path.write_bytes(bad)
        try:
            appliance = Appliance(str(path))
            with open_image(appliance.describe(appliance.disks[0])) as node:
                node.read(0, min(node.size, 4096))
        except (UserError, OSError):
            pass


def test_units(tmp_path: Path) -> None:
    for said, factor in (
        ("byte * 2^20", 1 << 20), ("byte*2^30", 1 << 30), ("byte", 1), ("", 1), ("MegaBytes", 1 << 20), ("KB", 1024),
        ("byte" + " " * 100_000 + "*" + " " * 100_000 + "x", 1),
    ):  # fmt: skip
        text = OVF.replace('ovf:capacityAllocationUnits="byte * 2^20"', f'ovf:capacityAllocationUnits="{said}"')
        assert Appliance(ova(tmp_path, {"a.ovf": text.encode(), "disk1.vmdk": b""})).disks[0].capacity == 6 * factor
