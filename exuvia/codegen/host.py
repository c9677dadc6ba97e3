"""What LLVM makes code for on this host."""

import llvmlite
import llvmlite.binding as llvm


def describe() -> str:
    """One line: the versions of LLVM and llvmlite, the target and the processor that LLVM sees. Raises OSError when it cannot be loaded."""
    version = ".".join(map(str, llvm.llvm_version_info))
    return f"{version} (llvmlite {llvmlite.__version__}), {llvm.get_process_triple()}, {llvm.get_host_cpu_name()}"
