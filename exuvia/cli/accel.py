"""`-accel`: how the processor runs, and the options of each way (QEMU, System Emulation, Invocation)."""

import re

from exuvia.cli import keyval, listings
from exuvia.support.errors import UserError

KEYS = {"software": ("regions", "thread", "tb-size", "split-wx"), "kvm": ("kernel-irqchip",)}


def named(text: str) -> list[str]:
    """The accelerators of `NAME:NAME`. Raises UserError."""
    return [listings.accelerator(name) for name in text.split(":")]


def kernel_irqchip(text: str) -> tuple[str, str]:
    """The option that says which interrupt controllers KVM is to be. Raises UserError."""
    if text not in ("on", "split", "off"):
        raise UserError(f"kernel-irqchip is on, split or off, not '{text}'")
    return "kernel-irqchip", text


def described(text: str) -> tuple[list[str], keyval.Pairs]:
    """The accelerators that `-accel TEXT` names, and those of its options that change something. Raises UserError."""
    pairs = keyval.parse(text, "accel")
    names = named(dict(pairs).get("accel", ""))
    known = ["accel", *(key for name in names for key in KEYS[name])]
    options: keyval.Pairs = []
    for key, value in keyval.only("accel", pairs, known).items():
        match key:
            case "regions" if value not in ("on", "off", "check"):
                raise UserError(f"-accel {text}: regions is on, off, or check: both, side by side, until they differ")
            case "thread" if value not in ("multi", "single"):
                raise UserError(f"-accel {text}: thread is multi or single, not '{value}'")
            case "tb-size" if not re.fullmatch(r"\d{1,9}", value):
                raise UserError(f"-accel {text}: tb-size is a number of MiB, not '{value}'")
            case "split-wx":  # code is written through one mapping and runs in another, always
                keyval.switch(f"-accel {text}: split-wx", value)
            case "kernel-irqchip":
                options.append(kernel_irqchip(value))
            case "regions" | "thread":
                options.append((key, value))
    return names, options


def must_suit(options: keyval.Pairs, processors: int) -> None:
    """Raises UserError where the options ask for what several processors cannot be."""
    if dict(options).get("thread") == "single" and processors > 1:
        raise UserError(f"-accel thread=single: each of {processors} processors has a thread of its own, leave it out or give -smp 1")
