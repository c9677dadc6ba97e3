"""The x86 processor (AMD64 Architecture Programmer's Manual, Intel 64 and IA-32 SDM). `ROWS` holds every encoding once `load()` ran."""

from importlib import import_module

CHAPTERS = """integer bit string control calls fences x87 x87_control x87_functions xsave mmx sse sse3 ssse3 sse4 sse_string
    sse_float sse_convert crypto avx avx2 fma eflags segments interrupts ports system""".split()


def load() -> None:
    """Import every chapter, so that `forms.ROWS` and `concrete.RARE` are whole."""
    for chapter in CHAPTERS:
        import_module(f"exuvia.isa.x86.{chapter}")
    import_module("exuvia.isa.x86.rare").load()
