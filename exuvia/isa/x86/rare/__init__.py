"""What happens too seldom to be worth compiling, in plain Python on a `concrete.Processor`. `load()` registers all of it."""

from importlib import import_module

CHAPTERS = "undefined control debug delivery returns descriptors transfers tasks msr cpuid random frames".split()


def load() -> None:
    """Import every chapter, so that `concrete.RARE` is whole."""
    for chapter in CHAPTERS:
        import_module(f"exuvia.isa.x86.rare.{chapter}")
