"""What LLVM makes code for on this host."""

from pathlib import Path

import llvmlite

WHICH = {"vendor_id", "cpu family", "model", "model name", "stepping", "flags"}
WHICH |= {"CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"}
"""The lines of /proc/cpuinfo that say which processor it is and what it has (proc(5)), on x86 and Arm."""


def describe() -> str:
    """One line: the versions of LLVM and llvmlite, the target and the processor that LLVM sees. Raises OSError when it cannot be loaded."""
    import llvmlite.binding as llvm

    version = ".".join(map(str, llvm.llvm_version_info))
    return f"{version} (llvmlite {llvmlite.__version__}), {llvm.get_process_triple()}, {llvm.get_host_cpu_name()}"


def lines() -> set[str]:
    """What the system says of its processors; nothing where it is no Linux."""
    try:
        return {line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.partition(":")[0].strip() in WHICH}
    except OSError:
        return set()


def identity() -> str:
    """What generated code depends on here: the version of LLVM and the host's processors. LLVM itself, which takes long to load, is asked
    only where the system does not say."""
    if not (told := lines()):
        import llvmlite.binding as llvm

        told = {llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()}
    return "\n".join([llvmlite.__version__, *sorted(told)])
