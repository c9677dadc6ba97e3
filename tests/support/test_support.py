"""Bit fields, the user's errors, the log and the registry."""

import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.devices.device import Device, devices
from exuvia.disk.graph import FILTERS, FORMATS, PROTOCOLS
from exuvia.support import log
from exuvia.support.bits import bit
from exuvia.support.errors import UserError, unknown
from exuvia.support.registry import Registry, modules


def test_bits() -> None:
    assert bit[7].extract(0x80) == 1
    assert bit[18:16].mask == 0x70000
    assert bit[18:16].insert(0xFFFFFFFF, 5) == 0xFFFDFFFF
    assert str(bit[18:16]) == "bit[18:16]"
    with pytest.raises(ValueError):
        bit[18:16].insert(0, 8)
    with pytest.raises(ValueError):
        bit[0:3]


def test_unknown_names_the_nearest() -> None:
    assert str(unknown("device", "isa-seriel", ["isa-serial", "ioapic"])) == "unknown device 'isa-seriel' (did you mean isa-serial?)"
    assert str(unknown("device", "zzz", ["a", "b"])) == "unknown device 'zzz' (did you mean a or b?)"
    assert str(unknown("device", "zzz", map(str, range(20)))) == "unknown device 'zzz'"


def test_registry() -> None:
    assert modules("exuvia.devices")["uart16550"] == "exuvia.devices.serial.uart16550"
    assert "isa-serial" in devices
    assert issubclass(devices["isa-serial"], Device)
    with pytest.raises(UserError, match="did you mean isa-serial"):
        devices["isa-seril"]
    assert list(devices) == sorted(devices)
    assert len(Registry("exuvia.memory", Device, "device")) == 0


def test_disks_are_named_as_their_files() -> None:
    for registry in (FORMATS, PROTOCOLS, FILTERS):
        files = modules(registry.package)
        assert list(registry)
        assert [name for name in registry if name.replace("-", "_") not in files] == []


def test_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.unimp("unseen")
    file = tmp_path / "log"
    log.configure("unimp,int", str(file))
    log.unimp("one")
    log.guest_errors("off")
    for _ in range(3):
        log.interrupts.once("key", "two")
    log.configure("all")
    log.guest_errors("three")
    log.configure("")
    assert file.read_text() == "one\ntwo\n"
    assert capsys.readouterr().err == "three\n"
    with pytest.raises(UserError, match="did you mean unimp"):
        log.configure("unimpl")
    with pytest.raises(UserError, match="cannot write the log"):
        log.configure("unimp", str(tmp_path / "missing" / "log"))
    assert all(name in log.help_text() for name in ("unimp", "guest_errors", "all"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_that_cannot_grow_stops_nobody() -> None:
    log.configure("unimp", "/dev/full")
    log.unimp("lost, whatever is in it: \udcff")
    log.configure("")


def test_a_class_named_as_its_file_is_imported_alone() -> None:
    code = """
import sys
from exuvia.disk.graph import FORMATS
assert FORMATS["vdi"].name == "vdi" and "raw" in FORMATS and "nothing" != FORMATS["vdi"]
assert "exuvia.disk.formats.vhdx.vhdx" not in sys.modules
assert "nothing" not in FORMATS
assert "exuvia.disk.formats.vhdx.vhdx" not in sys.modules
assert "vhdx" in list(FORMATS) and "exuvia.disk.formats.vhdx.vhdx" in sys.modules
assert "nothing" not in FORMATS and "vmdk" in FORMATS and "file" not in FORMATS
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
