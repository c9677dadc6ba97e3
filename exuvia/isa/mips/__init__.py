"""The MIPS processor (MIPS32 Architecture For Programmers, release 2). `forms.ROWS` holds every encoding once `load()` ran."""

from importlib import import_module

CHAPTERS = "integer multiply bit memory branch trap fpu fpu_move fpu_convert fpu_compare cp0 tlb system".split()


def load() -> None:
    """Import every chapter, so that `forms.ROWS` and `concrete.RARE` are whole."""
    for chapter in CHAPTERS:
        import_module(f"exuvia.isa.mips.{chapter}")
    import_module("exuvia.isa.mips.rare").load()
