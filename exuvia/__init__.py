"""Exuvia: a machine emulator and virtualizer, described in Python and run by LLVM."""

__version__ = "0.1.0"
