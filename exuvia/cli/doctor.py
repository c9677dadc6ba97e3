"""Say what this host offers, and what to do about what it does not."""

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

from exuvia.guests import cache

_GET_API_VERSION = 0xAE00  # ioctl on /dev/kvm (Linux, Documentation/virt/kvm/api.rst, 4.1)


def arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(args: argparse.Namespace) -> int:
    """Print a line per subject; status 1 when something that Exuvia needs is missing."""
    llvm, sound = _llvm()
    rows = {
        "Python": f"{platform.python_version()} ({sys.executable})",
        "Host": f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors",
        "LLVM": llvm,
        "KVM": kvm(),
        "Fetching": _clients(),
        "Cache": _cache(),
    }
    if sound:
        rows["Code"] = _code()
    for name, text in rows.items():
        print(f"{name:<10} {text}")
    return 0 if sound else 1


def _llvm() -> tuple[str, bool]:
    try:
        from exuvia.codegen.host import describe

        return describe(), True
    except (ImportError, OSError) as error:
        return f"missing: {error} (pip install llvmlite)", False


def kvm(device: str = "/dev/kvm", cpuinfo: str = "/proc/cpuinfo") -> str:
    """Whether KVM can be used here; if not, why and what to type."""
    if platform.system() != "Linux":
        return "not on this system: it is part of Linux"
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"absent: there is no {device}; {_module(cpuinfo)}"
    except PermissionError:
        return f"present, not usable: no right to open {device}; {_rights(device)}"
    except OSError as error:
        return f"present, not usable: {error.strerror}; {_module(cpuinfo)}"
    try:
        import fcntl

        version = fcntl.ioctl(fd, _GET_API_VERSION)
    except OSError as error:
        return f"{device} does not answer as KVM: {error.strerror}"
    finally:
        os.close(fd)
    return f"present and usable (API version {version}); Exuvia has no KVM accelerator yet"


def _module(cpuinfo: str) -> str:
    release = platform.release()
    if platform.machine() in ("x86_64", "i686", "AMD64"):
        try:
            words = set(Path(cpuinfo).read_text().split())
        except OSError:
            words = set()
        flag = next((flag for flag in ("vmx", "svm") if flag in words), None)
        if flag is None:
            return "the processor shows no virtualization (vmx, svm): switch it on in the firmware, or this host is itself a guest"
        module = "kvm_intel" if flag == "vmx" else "kvm_amd"
    else:
        module = "kvm"
    if not Path("/lib/modules", release).is_dir():
        return f"the modules of the running kernel {release} are not installed: reboot after a kernel update, or install them"
    return f"load the module: sudo modprobe {module}"


def _rights(device: str) -> str:
    import grp
    import pwd

    gid = os.stat(device).st_gid
    try:
        group, user = grp.getgrgid(gid).gr_name, pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"it belongs to group {gid}"
    if user in grp.getgrgid(gid).gr_mem and gid not in os.getgroups():
        return f"{user} is in group {group} since this login began: log in again"
    return f"join its group: sudo usermod -aG {group} {user}, then log in again"


def _clients() -> str:
    from importlib.util import find_spec

    pip = "pip" if find_spec("pip") else "no pip (guests from PyPI cannot be fetched)"
    return f"{pip}, {'apt-get' if shutil.which('apt-get') else 'no apt-get (guests from Debian cannot be fetched)'}"


def _cache() -> str:
    root = cache.root()
    if not root.is_dir():
        parent = next(path for path in root.parents if path.exists())
        usable = parent.is_dir() and os.access(parent, os.W_OK)
        return f"{root} (empty" + (")" if usable else f"; {parent} cannot be written: Exuvia runs without a cache)")
    parts = [f"{path.name} {_size(path) / 1e6:.1f} MB" for path in sorted(root.iterdir()) if path.is_dir()]
    writable = "" if os.access(root, os.W_OK) else "; it cannot be written"
    return f"{root} ({', '.join(parts) or 'empty'}{writable})"


def _code() -> str:
    """What the store has for this build: handlers of instruction forms, and regions of guests' hot code."""
    from exuvia.codegen import store
    from exuvia.codegen.engine import build_identity
    from exuvia.isa.x86.architecture import architecture

    folder, build = store.folder(), build_identity(architecture())
    kinds = {"functions": build, "regions": store.beside(build, "regions")}
    held = {kind: store.contents(folder / name) for kind, name in kinds.items()}
    parts = [f"{count:,} {kind} {size / 1e6:.1f} MB" for kind, (count, size) in held.items()]
    others = [path for path in folder.iterdir() if path.is_dir() and path.name not in kinds.values()] if folder.is_dir() else []
    if others:
        parts.append(f"other builds {sum(map(_size, others)) / 1e6:.1f} MB")
    return f"{', '.join(parts)}, at most {store.LIMIT / 1e6:.0f} MB"


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # gone meanwhile
            continue
    return total
