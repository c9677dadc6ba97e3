"""exuvia ovf list and extract."""

import json
from pathlib import Path

import pytest

from exuvia.cli.main import run
from exuvia.disk.graph import open_image
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import needs_qemu
from tests.disk.test_ovf import OVF, disk, ova


@needs_qemu
def test_list_and_extract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, packed = disk(tmp_path)
    appliance = ova(tmp_path, {"a.ovf": OVF.encode(), "disk1.vmdk": packed})
    (tmp_path / "out").mkdir()
    assert run(["ovf", "list", appliance]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Web server: Debian 12 (64-bit)",
        "  processors  2",
        "  memory      1,536 MiB",
        "  network     bridged, E1000",
        "disk vmdisk1: 0.01 GiB, disk1.vmdk, vmdk",
        "disk scratch: 1.00 GiB, empty",
    ]
    assert run(["ovf", "list", appliance, "--output=json"]) == 0
    said = json.loads(capsys.readouterr().out)
    with open_image("json:" + json.dumps(said["disks"][0]["image"])) as node:
        assert node.read(0, node.size) == model
    assert run(["ovf", "extract", appliance, "--to", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "disk1.vmdk")
    assert (tmp_path / "out" / "disk1.vmdk").read_bytes() == packed
    assert run(["ovf", "extract", appliance, "vmdisk1", "-O", "raw", "--to", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "disk1.raw").read_bytes() == model
    with pytest.raises(UserError, match="is there already"):
        run(["ovf", "extract", appliance, "-O", "raw", "--to", str(tmp_path / "out")])
    with pytest.raises(UserError, match="there is no such folder"):
        run(["ovf", "extract", appliance, "--to", "/nowhere"])
