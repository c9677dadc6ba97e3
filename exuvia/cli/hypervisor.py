"""Why KVM cannot be used on a host, and what to type: read from the files below `root`, which is the host's own or a test's.

(Linux, Documentation/virt/kvm; Documentation/admin-guide/module-signing.rst; dkms(8); UEFI specification, 3.3 for the variable SecureBoot.)
"""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exuvia.support import zstd
from exuvia.support.errors import UserError

LARGEST_MODULE = 64 << 20  # bytes, unpacked
HYPERVISOR_MODULES = ("kvm", "vboxdrv", "vmmon", "pvm")  # how the names of their kernel modules begin
SIGNED = b"~Module signature appended~\n"  # the end of a module's file that is signed
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}


@dataclass(frozen=True)
class Asking:
    """Who wants to use it: `groups` are those of the process, by number."""

    uid: int
    groups: frozenset[int]


def myself() -> Asking:
    """This process."""
    return Asking(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


def kvm(root: Path, asking: Asking) -> str:
    """One line: what stands in the way of /dev/kvm, first things first; "" where nothing does."""
    device = root / "dev/kvm"
    if not device.exists():
        return f"there is no /dev/kvm; {_no_device(root)}"
    if not _may(device, asking):
        return f"no right to open /dev/kvm; {_rights(root, device, asking)}"
    if _loaded(root, "vboxdrv") and not _loaded(root, "kvm_pvm"):
        return "VirtualBox's vboxdrv is loaded too, and while it runs a guest KVM gets none: sudo modprobe -r vboxnetflt vboxnetadp vboxdrv"
    return ""


def nested(root: Path) -> str:
    """Whether this host is a guest itself, and whether guests of its guests can be: "" where there is nothing to say."""
    said = []
    if "hypervisor" in _flags(root):
        vendor, product = (_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
        said.append(f"this host is itself a guest ({' '.join(filter(None, (vendor, product))) or 'of an unnamed hypervisor'})")
    off = [module for module in MODULES.values() if _text(root / "sys/module" / module / "parameters/nested") in ("N", "0")]
    said += [f"guests cannot have KVM (echo 'options {m} nested=1' | sudo tee /etc/modprobe.d/nested.conf, then reload {m})" for m in off]
    return "; ".join(said)


def _no_device(root: Path) -> str:
    flags, release = _flags(root), _release(root)
    flag = next((flag for flag in MODULES if flag in flags), None)
    folder = root / "lib/modules" / release
    if flag is None and _loaded(root, "kvm"):
        return "the module kvm is loaded, none for a kind of processor is: load the one of your hypervisor"
    if flag is None and "hypervisor" in flags:
        return (
            "this host is itself a guest, and is shown no virtualization (vmx, svm): switch on nested virtualization in the hypervisor"
            " that runs it, or choose an instance type that has it"
        )
    if flag is None:
        return (
            "the processor shows no virtualization (vmx, svm): switch on 'Virtualization Technology' (Intel: VT-x, AMD: SVM) in the"
            " firmware's setup; if it is on, this processor has none"
        )
    module = MODULES[flag]
    if _loaded(root, module):
        return f"{module} is loaded, and udev has not made the device: sudo mknod /dev/kvm c 10 232"
    if not folder.is_dir():
        others = sorted(path.name for path in (root / "lib/modules").glob("*") if path.is_dir())
        there = f" ({', '.join(others)} are)" if others else ""
        return f"the modules of the running kernel {release} are not installed{there}: reboot after a kernel update, or install them"
    file = module.replace("_", "-") + ".ko"
    if file in _text(folder / "modules.builtin"):
        return f"{module} is part of the kernel {release} and found no virtualization it can use: sudo dmesg | grep -i kvm says why"
    if not any(name in _text(folder / "modules.dep") for name in (file, f"{module}.ko")):
        return (
            f"the kernel {release} has no module {module}: install the package with all its modules (Ubuntu: linux-modules-extra-{release})"
        )
    if (banned := _blacklisted(root, module)) is not None:
        return f"{banned} keeps {module} from being loaded: remove the line, then sudo modprobe {module}"
    return f"load the module: sudo modprobe {module}; if that fails, sudo dmesg | grep -i kvm says why ('disabled by bios': firmware)"


def _may(device: Path, asking: Asking) -> bool:
    if asking.uid == 0 or asking == myself() and os.access(device, os.R_OK | os.W_OK, effective_ids=True):  # which knows access lists
        return True
    about = device.stat()
    shift = 6 if about.st_uid == asking.uid else 3 if about.st_gid in asking.groups else 0
    return about.st_mode >> shift & 6 == 6


def _rights(root: Path, device: Path, asking: Asking) -> str:
    about = device.stat()
    user = next((row[0] for row in _rows(root / "etc/passwd") if len(row) > 2 and row[2] == str(asking.uid)), f"user {asking.uid}")
    group = next((row for row in _rows(root / "etc/group") if len(row) > 3 and row[2] == str(about.st_gid)), None)
    if about.st_mode >> 3 & 6 != 6 or about.st_gid == 0:
        return "only root may (udev's rule is missing): sudo chown root:kvm /dev/kvm, sudo chmod 660 /dev/kvm, and join the group kvm"
    if group is None:
        return f"it belongs to group {about.st_gid}, which has no name: join it"
    if user in group[3].split(","):
        return f"{user} is in group {group[0]} since this login began: log in again, or newgrp {group[0]}"
    return f"join its group: sudo usermod -aG {group[0]} {user}, then log in again"


def out_of_tree(root: Path) -> list[str]:
    """What DKMS knows of hypervisors' modules for the running kernel, a line each."""
    return [line for package in sorted((root / "var/lib/dkms").glob("*/*")) if (line := _dkms(root, package))]


def _dkms(root: Path, package: Path) -> str | None:
    """One version of one package; None where it is no hypervisor's."""
    if package.is_symlink() or not package.is_dir():
        return None
    release, title = _release(root), f"{package.parent.name} {package.name}"
    built: dict[str, list[Path]] = {}
    for file in package.glob("*/*/module/*.ko*"):
        built.setdefault(file.parts[-4], []).append(file)
    names = {file.name.partition(".")[0] for files in built.values() for file in files} | set(_announced(package))
    if not any(name.startswith(HYPERVISOR_MODULES) for name in (*names, package.parent.name)):
        return None
    if release not in built:
        fix = f"sudo dkms install {package.parent.name}/{package.name} -k {release}"
        log = package / "build/make.log"
        if log.exists():
            return f"{title}: the build for kernel {release} failed, {'/' / log.relative_to(root)} says why; then {fix}"
        others = f", for {', '.join(sorted(built))} it is" if built else ""
        if not (root / "lib/modules" / release / "build").exists():
            headers = f"install its headers first (Debian: linux-headers-{release})"
            return f"{title}: not built for the running kernel {release}{others}; {headers}, then {fix}"
        return f"{title}: not built for the running kernel {release}{others}: {fix}"
    unsigned = [file.name for file in built[release] if not _signed(file)]
    if unsigned and _secure_boot(root):
        key = "/var/lib/dkms/mok.pub"
        return (
            f"{title}: {', '.join(sorted(unsigned))} not signed, and Secure Boot lets no such module in:"
            f" sudo mokutil --import {key} and reboot once, then sudo dkms build --force {package.parent.name}/{package.name} -k {release}"
        )
    placed = {path.name.partition(".")[0] for path in (root / "lib/modules" / release).rglob("*.ko*")}
    if missing := sorted(name for name in (file.name.partition(".")[0] for file in built[release]) if name not in placed):
        return f"{title}: built, not installed ({', '.join(missing)}): sudo dkms install {package.parent.name}/{package.name} -k {release}"
    idle = [name for name in sorted(names & placed) if not _loaded(root, name)]
    return f"{title}: built for kernel {release}" + (f", not loaded: sudo modprobe {idle[0]}" if idle else ", loaded")


def _announced(package: Path) -> Iterable[str]:
    """The modules that dkms.conf names."""
    for line in _text(package / "source/dkms.conf").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip().startswith("BUILT_MODULE_NAME"):
            yield value.strip().strip("\"'")


def _signed(file: Path) -> bool:
    """Does a module's file, which may be compressed, end in a signature?"""
    try:
        data = file.read_bytes()
        if file.suffix == ".xz":
            data = lzma.decompress(data)
        elif file.suffix == ".gz":
            data = gzip.decompress(data)
        elif file.suffix == ".zst":
            data = zstd.first_frame(data, LARGEST_MODULE)
    except (OSError, EOFError, ValueError, UserError, lzma.LZMAError):
        return True  # not known: no reason to send the user anywhere
    return data.endswith(SIGNED)


def _secure_boot(root: Path) -> bool:
    try:
        return (root / SECURE_BOOT).read_bytes()[4:5] == b"\1"  # behind four bytes of attributes
    except OSError:
        return False


def _loaded(root: Path, module: str) -> bool:
    return (root / "sys/module" / module.replace("-", "_")).is_dir()


def _blacklisted(root: Path, module: str) -> str | None:
    for folder in ("etc/modprobe.d", "usr/lib/modprobe.d"):
        for file in sorted((root / folder).glob("*.conf")):
            if any(
                line.split()[:2] in (["blacklist", module], ["blacklist", module.replace("_", "-")]) for line in _text(file).splitlines()
            ):
                return f"/{folder}/{file.name}"
    return None


def _flags(root: Path) -> set[str]:
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "flags":
            return set(rest.split())
    return set()


def _release(root: Path) -> str:
    return _text(root / "proc/sys/kernel/osrelease")


def _rows(file: Path) -> list[list[str]]:
    return [line.split(":") for line in _text(file).splitlines()]


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
