"""Say what this host offers, and what to do about what it does not."""

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

from exuvia.cli import hypervisor
from exuvia.guests import cache


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
    for number, line in enumerate(hypervisor.out_of_tree(Path("/"))):
        rows[f"DKMS {number + 1}" if number else "DKMS"] = line
    for name, text in rows.items():
        print(f"{name:<10} {text}")
    return 0 if sound else 1


def _llvm() -> tuple[str, bool]:
    try:
        from exuvia.codegen.host import describe

        return describe(), True
    except (ImportError, OSError) as error:
        return f"missing: {error} (pip install llvmlite)", False


def kvm(root: Path = Path("/")) -> str:
    """Whether KVM can be used here; if not, why and what to type."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        return "not on this system: Exuvia uses that of Linux on x86-64"
    if reason := hypervisor.kvm(root, hypervisor.myself()):
        return reason
    from exuvia.vcpu.accelerators import Unavailable
    from exuvia.vcpu.kvm.vm import open_device, virtual_machine

    try:
        device = open_device(str(root / "dev/kvm"))
    except Unavailable as unavailable:
        return str(unavailable)
    try:
        os.close(virtual_machine(device))
    except Unavailable as unavailable:
        return str(unavailable)
    finally:
        os.close(device)
    kind = "kvm-pvm: no virtualization by hardware, only small guests run" if (root / "sys/module/kvm_pvm").is_dir() else ""
    return "; ".join(filter(None, ("present and usable: -accel kvm", kind, hypervisor.nested(root))))


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
    """What the store has for this build, by architecture: handlers of instruction forms, their stencils, regions of guests' hot code."""
    from exuvia.cli.targets import TARGETS
    from exuvia.codegen import store
    from exuvia.codegen.engine import build_identity
    from exuvia.isa import architecture

    folder, parts = store.folder(), list[str]()
    ours: set[str] = set()
    for name in sorted({target.architecture for target in TARGETS.values()}):
        build = build_identity(architecture(name))
        kinds = {"functions": build} | {kind: store.beside(build, kind) for kind in ("stencils", "regions")}
        held = {kind: store.contents(folder / place) for kind, place in kinds.items()}
        parts.append(f"{name}: " + ", ".join(f"{count:,} {kind} {size / 1e6:.1f} MB" for kind, (count, size) in held.items()))
        ours.update(kinds.values())
    others = [path for path in folder.iterdir() if path.is_dir() and path.name not in ours] if folder.is_dir() else []
    if others:
        parts.append(f"other builds {sum(map(_size, others)) / 1e6:.1f} MB")
    return f"{'; '.join(parts)}; at most {store.LIMIT / 1e6:.0f} MB"


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # gone meanwhile
            continue
    return total
