"""What doctor says of KVM, on hosts that are trees of files."""

from __future__ import annotations

import gzip
import lzma
import os
import platform
from pathlib import Path

import pytest

from exuvia.cli import doctor, hypervisor
from exuvia.cli.hypervisor import Asking

KERNEL = "6.1.0-9-amd64"
ANN = Asking(1000, frozenset({1000}))
ROOT = Asking(0, frozenset({0}))
SIGNATURE = b"~Module signature appended~\n"


class Host:
    """A tree to which files are added."""

    def __init__(self, root: Path, flags: str = "fpu vmx") -> None:
        self.root = root
        self.write("proc/cpuinfo", f"processor : 0\nflags\t\t: {flags}\n")
        self.write("proc/sys/kernel/osrelease", f"{KERNEL}\n")
        self.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
        self.write("etc/group", f"root:x:0:\nkvm:x:{os.getgid() or 104}:\n")

    def write(self, name: str, content: str | bytes = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def modules(self) -> None:
        self.write(f"lib/modules/{KERNEL}/modules.dep", "kernel/arch/x86/kvm/kvm-intel.ko: kernel/arch/x86/kvm/kvm.ko\n")

    def said(self, asking: Asking = ROOT) -> str:
        return hypervisor.kvm(self.root, asking)


def test_an_access_list_gives_the_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As udev's tag uaccess gives it to who sits at the host: the mode alone does not show it."""
    host = Host(tmp_path)
    host.write("dev/kvm").chmod(0o600)
    monkeypatch.setattr(hypervisor, "myself", lambda: ANN)
    monkeypatch.setattr(os, "access", lambda *_, **__: True)
    assert host.said(ANN) == ""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(Path, "stat", lambda path, **_: os.stat_result((0o100600, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
    assert "no right to open /dev/kvm" in hypervisor.kvm(tmp_path, ANN)


def test_nothing_stands_in_the_way(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("dev/kvm").chmod(0o600)
    assert host.said() == ""


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ("fpu", "switch on 'Virtualization Technology' (Intel: VT-x, AMD: SVM) in the firmware's setup"),
        ("fpu hypervisor", "switch on nested virtualization in the hypervisor that runs it"),
    ],
)
def test_no_virtualization(tmp_path: Path, flags: str, part: str) -> None:
    said = Host(tmp_path, flags).said()
    assert said.startswith("there is no /dev/kvm; ")
    assert part in said


def test_the_module_is_not_loaded(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.modules()
    assert "load the module: sudo modprobe kvm_intel" in host.said()
    host.write("etc/modprobe.d/mine.conf", "# mine\nblacklist kvm-intel\n")
    assert "/etc/modprobe.d/mine.conf keeps kvm_intel from being loaded" in host.said()


def test_the_module_is_missing(tmp_path: Path) -> None:
    host = Host(tmp_path, "svm hypervisor")
    (tmp_path / "lib/modules/6.1.0-10-amd64").mkdir(parents=True)
    said = host.said()
    assert f"the modules of the running kernel {KERNEL} are not installed (6.1.0-10-amd64 are): reboot" in said
    host.write(f"lib/modules/{KERNEL}/modules.dep", "kernel/fs/ext4.ko:\n")
    assert f"the kernel {KERNEL} has no module kvm_amd" in host.said()
    host.write(f"lib/modules/{KERNEL}/modules.builtin", "kernel/arch/x86/kvm/kvm-amd.ko\n")
    assert f"kvm_amd is part of the kernel {KERNEL} and found no virtualization it can use" in host.said()


def test_the_device_is_missing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (tmp_path / "sys/module/kvm_intel").mkdir(parents=True)
    assert "sudo mknod /dev/kvm c 10 232" in host.said()


def test_rights(tmp_path: Path) -> None:
    """The tree's files are ours, so whoever asks is somebody else: by the group's rights or by everybody's."""
    host = Host(tmp_path)
    device = host.write("dev/kvm")
    group = os.stat(device).st_gid
    device.chmod(0o660)
    assert host.said(Asking(1000, frozenset({1000, group}))) == ""
    device.chmod(0o666)
    assert host.said(ANN) == ""
    device.chmod(0o600)
    assert "only root may (udev's rule is missing): sudo chown root:kvm /dev/kvm" in host.said(ANN)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_groups(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("etc/group", "root:x:0:\nkvm:x:104:bob\n")
    device = host.write("dev/kvm")
    os.chown(device, 0, 104)
    device.chmod(0o660)
    assert host.said(ANN) == "no right to open /dev/kvm; join its group: sudo usermod -aG kvm ann, then log in again"
    host.write("etc/group", "root:x:0:\nkvm:x:104:bob,ann\n")
    assert "ann is in group kvm since this login began: log in again, or newgrp kvm" in host.said(ANN)
    os.chown(device, 0, 200)
    assert "it belongs to group 200, which has no name" in host.said(ANN)


def test_another_hypervisor(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("dev/kvm").chmod(0o600)
    (tmp_path / "sys/module/vboxdrv").mkdir(parents=True)
    assert "VirtualBox's vboxdrv is loaded too" in host.said()


def test_nested(tmp_path: Path) -> None:
    host = Host(tmp_path, "vmx hypervisor")
    host.write("sys/class/dmi/id/sys_vendor", "QEMU\n")
    host.write("sys/module/kvm_intel/parameters/nested", "N\n")
    said = hypervisor.nested(tmp_path)
    assert said.startswith("this host is itself a guest (QEMU); guests cannot have KVM (echo 'options kvm_intel nested=1'")
    assert hypervisor.nested(Host(tmp_path / "plain").root) == ""


# -- DKMS


def package(host: Host, name: str = "virtualbox", module: str = "vboxdrv") -> str:
    host.write(f"var/lib/dkms/{name}/7.0/source/dkms.conf", f'PACKAGE_NAME="{name}"\nBUILT_MODULE_NAME[0]="{module}"\n')
    return f"var/lib/dkms/{name}/7.0"


def line(host: Host) -> str:
    lines = hypervisor.out_of_tree(host.root)
    assert len(lines) == 1
    return lines[0]


def test_dkms_and_what_is_no_hypervisor(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert hypervisor.out_of_tree(tmp_path) == []
    package(host, "nvidia", "nvidia")
    assert hypervisor.out_of_tree(tmp_path) == []


def test_not_built(tmp_path: Path) -> None:
    host = Host(tmp_path)
    at = package(host)
    fix = f"sudo dkms install virtualbox/7.0 -k {KERNEL}"
    assert line(host) == (
        f"virtualbox 7.0: not built for the running kernel {KERNEL}; install its headers first (Debian: linux-headers-{KERNEL}), then {fix}"
    )
    (tmp_path / f"lib/modules/{KERNEL}/build").mkdir(parents=True)
    host.write(f"{at}/6.1.0-8-amd64/x86_64/module/vboxdrv.ko")
    assert line(host) == f"virtualbox 7.0: not built for the running kernel {KERNEL}, for 6.1.0-8-amd64 it is: {fix}"
    host.write(f"{at}/build/make.log", "error")
    assert line(host).startswith(
        f"virtualbox 7.0: the build for kernel {KERNEL} failed, /var/lib/dkms/virtualbox/7.0/build/make.log says why"
    )


def test_built(tmp_path: Path) -> None:
    host = Host(tmp_path)
    at = package(host)
    host.write(f"{at}/{KERNEL}/x86_64/module/vboxdrv.ko", b"elf" + SIGNATURE)
    assert line(host) == f"virtualbox 7.0: built, not installed (vboxdrv): sudo dkms install virtualbox/7.0 -k {KERNEL}"
    host.write(f"lib/modules/{KERNEL}/updates/dkms/vboxdrv.ko")
    assert line(host) == f"virtualbox 7.0: built for kernel {KERNEL}, not loaded: sudo modprobe vboxdrv"
    (tmp_path / "sys/module/vboxdrv").mkdir(parents=True)
    assert line(host) == f"virtualbox 7.0: built for kernel {KERNEL}, loaded"


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress), (".zst", lambda data: pytest.importorskip("zstandard").compress(data))],
)
def test_secure_boot(tmp_path: Path, suffix: str, pack: object) -> None:
    host = Host(tmp_path)
    at = package(host, "kvm-pvm", "kvm-pvm")
    module = f"{at}/{KERNEL}/x86_64/module/kvm-pvm.ko{suffix}"
    host.write(f"lib/modules/{KERNEL}/updates/dkms/kvm-pvm.ko{suffix}")
    for state, data, refused in ((b"\0", b"elf", False), (b"\1", b"elf", True), (b"\1", b"elf" + SIGNATURE, False)):
        host.write(hypervisor.SECURE_BOOT, b"\6\0\0\0" + state)
        host.write(module, pack(data))  # type: ignore[operator]
        assert ("not signed, and Secure Boot lets no such module in" in line(host)) == refused
    host.write(module, b"neither packed nor a module")
    assert line(host)


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="KVM for x86 is Linux's on x86-64")
def test_a_device_that_is_something_else(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("dev/kvm").chmod(0o600)
    assert "does not answer as KVM" in doctor.kvm(tmp_path)
