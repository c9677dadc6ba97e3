"""Which accelerator a machine gets, why not another, and what is said about it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from exuvia.machines.config import MachineConfig
from exuvia.machines.pc import Pc
from exuvia.support.errors import UserError
from exuvia.vcpu.accelerators import Unavailable, kvm
from exuvia.vcpu.kvm import cpuid, vm
from tests.vcpu.kvm import host

COMMAND = "from exuvia.cli.system import {name} as command; import sys; sys.argv[0] = '{name}'; command()"


def machine(tmp_path: Path, *accel: str, **settings: object) -> Pc:
    kernel = tmp_path / "kernel"
    kernel.touch()
    return Pc(MachineConfig(accel=accel, kernel=str(kernel), **settings))  # type: ignore[arg-type]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host without /dev/kvm."""
    monkeypatch.setattr(vm, "DEVICE", str(tmp_path / "kvm"))
    return str(tmp_path / "kvm")


def test_no_kvm(tmp_path: Path, nowhere: str) -> None:
    with pytest.raises(UserError) as caught:
        machine(tmp_path, "kvm")
    assert str(caught.value) == f"-accel kvm: there is no {nowhere} ('exuvia doctor' says what to do)"


def test_the_second_choice_with_the_reason(tmp_path: Path, nowhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = machine(tmp_path, "kvm", "tcg", smp=2)
    assert made.accelerator == "software"
    assert [type(vcpu).__name__ for vcpu in made.vcpus] == ["SoftwareVcpu", "SoftwareVcpu"]
    expected = f"exuvia: -accel kvm: there is no {nowhere} ('exuvia doctor' says what to do); going on with software\n"
    assert capsys.readouterr().err == expected


def test_what_is_no_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "DEVICE", "/dev/null")
    with pytest.raises(UserError, match="-accel kvm: /dev/null does not answer as KVM: "):
        machine(tmp_path, "kvm")


def test_the_hosts_processor_is_kvms(tmp_path: Path, nowhere: str) -> None:
    with pytest.raises(UserError, match="-cpu host: it is the host's own processor, which only -accel kvm gives"):
        machine(tmp_path, "kvm", "software", cpu="host")


def test_an_unknown_accelerator(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="-accel xen: no such accelerator; there are software, kvm"):
        machine(tmp_path, "xen")


@host.needs_kvm
def test_kvm_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = machine(tmp_path, "kvm", "software", cpu="qemu64", cpu_features=(("pni", False),), smp=2)
    assert made.accelerator == "kvm"
    assert [type(vcpu).__name__ for vcpu in made.vcpus] == ["KvmVcpu", "KvmVcpu"]
    assert capsys.readouterr().err == ""
    for end in made.at_end:
        end()


@host.needs_kvm
def test_features_that_the_host_lacks_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = machine(tmp_path, "kvm", cpu="qemu64", cpu_features=(("pni", False), ("sha_ni", True)))
    said = capsys.readouterr().err
    assert said == ("" if "sha_ni" in made.vcpus[0].model else "exuvia: -cpu qemu64: KVM on this host lacks sha_ni\n")  # type: ignore[attr-defined]
    for end in made.at_end:
        end()


@host.needs_kvm
@pytest.mark.parametrize("accel", [("kvm",), ("kvm", "software")])
def test_a_processor_that_the_host_refuses(
    accel: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(cpuid, "give", refuse)
    reason = "-accel kvm: KVM on this host makes no processor like -cpu qemu64: Invalid argument"
    if len(accel) == 1:
        with pytest.raises(UserError, match=reason):
            machine(tmp_path, *accel, cpu="qemu64")
    else:
        made = machine(tmp_path, *accel, cpu="qemu64", smp=2)
        assert made.accelerator == "software"
        assert f"exuvia: {reason}; going on with software\n" in capsys.readouterr().err
        for end in made.at_end:
            end()


@pytest.mark.skipif(os.getuid() != 0 or not os.path.exists("/dev/kvm"), reason="only root can be somebody without rights")
@pytest.mark.skipif(os.path.exists("/dev/kvm") and os.stat("/dev/kvm").st_mode & 6 == 6, reason="everybody may use /dev/kvm here")
def test_no_right() -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(Unavailable, match="/dev/kvm cannot be opened: Permission denied"):
            vm.open_device()
    finally:
        os.seteuid(0)


@host.needs_kvm
def test_the_wrapper(tmp_path: Path) -> None:
    """`exuvia-kvm` is the same command with KVM and nothing else."""
    (tmp_path / "kernel").write_bytes(b"no kernel at all")
    words = [sys.executable, "-c", COMMAND.format(name="kvm"), "-kernel", str(tmp_path / "kernel"), "-cpu", "host", "-display", "none"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("exuvia-kvm: ") and "kernel" in result.stderr


def test_kvm_has_no_other_architecture() -> None:
    with pytest.raises(Unavailable, match="it lends x86 processors, which machine 'virt' has none of"):
        kvm.create(SimpleNamespace(architecture="aarch64", name="virt"), 0, None)
