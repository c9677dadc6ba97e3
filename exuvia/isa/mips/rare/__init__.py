"""What happens too seldom to be worth compiling, in plain Python on a `concrete.Processor`. `load()` registers all of it."""

from importlib import import_module

CHAPTERS = "system semihosting".split()


def load() -> None:
    """Import every chapter, so that `concrete.RARE` is whole."""
    for chapter in CHAPTERS:
        import_module(f"exuvia.isa.mips.rare.{chapter}")
