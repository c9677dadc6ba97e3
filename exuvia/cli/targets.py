"""What each of `exuvia-system-NAME` makes: whose processors, and which machine and model when nothing is said."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """`architecture` is a folder of isa/; `bits` and `order` say what kind of its processors; `machine` and `cpu` are the defaults."""

    architecture: str
    bits: Literal[32, 64]
    machine: str
    cpu: str
    order: Literal["little", "big"] = "little"


TARGETS = {
    "x86_64": Target("x86", 64, "pc", "qemu64"),
    "i386": Target("x86", 32, "pc", "qemu32"),
    "aarch64": Target("aarch64", 64, "virt", "cortex-a57"),
    "mips": Target("mips", 32, "malta", "24Kf", "big"),
    "mipsel": Target("mips", 32, "malta", "24Kf"),
}
