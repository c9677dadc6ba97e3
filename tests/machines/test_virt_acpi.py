"""The ACPI tables of virt: linked as firmware's loader links them, and Intel's compiler has nothing against them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from exuvia.boot.layout import MIB
from exuvia.boot.table_loader import SCRIPT
from exuvia.machines.config import MachineConfig, Topology
from exuvia.machines.virt_acpi import files
from tests.boot.images import saved
from tests.boot.test_table_loader import follow
from tests.machines.virts import make


@pytest.fixture
def config(tmp_path: Path) -> MachineConfig:
    return MachineConfig(machine="virt", cpu="cortex-a57", firmware=saved(tmp_path, "fw", b"x"), memory=64 * MIB, smp=2)


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("virtualization", ["off", "on"])
def test_intels_compiler_reads_them(config: MachineConfig, tmp_path: Path, version: str, virtualization: str) -> None:
    machine, _ = make(replace(config, machine_options=(("gic-version", version), ("virtualization", virtualization))))
    found = follow(files(machine.platform()))
    expected = {"APIC", "DSDT", "FACP", "GTDT", "MCFG", "PPTT", "SPCR"}
    assert set(found) == (expected | {"IORT"} if version == "3" else expected)
    if shutil.which("iasl") is None:
        pytest.skip("iasl is not installed")
    for signature, content in found.items():
        (tmp_path / f"{signature}.dat").write_bytes(content)
        said = subprocess.run(["iasl", "-d", f"{signature}.dat"], cwd=tmp_path, capture_output=True, text=True)
        text = (tmp_path / f"{signature}.dsl").read_text()
        assert said.returncode == 0 and "Invalid" not in text and "**** " not in text, signature + said.stderr + text
        again = subprocess.run(["iasl", "-p", "again", f"{signature}.dsl"], cwd=tmp_path, capture_output=True, text=True)
        assert again.returncode == 0 and " 0 Errors" in again.stdout, signature + again.stdout + again.stderr
        if signature != "DSDT":
            assert (tmp_path / "again.aml").read_bytes()[36:] == content[36:], signature


def test_when_there_are_any(config: MachineConfig) -> None:
    for chosen, there in (("on", True), ("auto", True), ("off", False)):
        machine, _ = make(replace(config, machine_options=(("acpi", chosen),)))
        listed = [path for path, _, _ in machine.fw_cfg._files]
        assert (SCRIPT in listed) is there


@pytest.mark.parametrize(
    ("topology", "parts"),
    [
        (None, [(1, 0, 0), (10, 36, 0), (10, 36, 1)]),
        (Topology(sockets=2), [(1, 0, 0), (10, 36, 0), (1, 0, 1), (10, 76, 1)]),
        (Topology(clusters=2), [(1, 0, 0), (0, 36, 0), (10, 56, 0), (0, 36, 1), (10, 96, 1)]),
        (Topology(threads=2), [(1, 0, 0), (0, 36, 0), (14, 56, 0), (14, 56, 1)]),
    ],
)
def test_how_processors_lie(config: MachineConfig, topology: Topology | None, parts: list[tuple[int, int, int]]) -> None:
    """Flags, where the part is that a part is of, and its ID, which of a processor is its UID (ACPI 6.5, 5.2.30.1)."""
    machine, _ = make(replace(config, topology=topology))
    table = follow(files(machine.platform()))["PPTT"]
    found = [struct.unpack_from("<BBHIIII", table, at) for at in range(36, len(table), 20)]
    assert [(flags, parent, number) for _, _, _, flags, parent, number, _ in found] == parts
    assert all((kind, length, resources) == (0, 20, 0) for kind, length, _, _, _, _, resources in found)
