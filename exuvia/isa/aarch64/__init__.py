"""The AArch64 processor (Arm Architecture Reference Manual, DDI 0487). `forms.ROWS` holds every encoding once `load()` ran."""

from importlib import import_module

CHAPTERS = "arithmetic logical conditional branches loads atomics exceptions system tick maintenance pointer_auth".split()
CHAPTERS += "fp_scalar fp_vector fp_later fp_system simd_same simd_different simd_shift simd_misc simd_copy simd_memory".split()
CHAPTERS += "crypto crypto_sm".split()


def load() -> None:
    """Import every chapter, so that `forms.ROWS` and `faults.rare` are whole."""
    for chapter in [*CHAPTERS, "rare", "semihosting"]:
        import_module(f"exuvia.isa.aarch64.{chapter}")
