"""The software processor with x86's part, as an accelerator puts them together."""

from exuvia.isa.x86.processor import Processor
from exuvia.vcpu.sidebyside import SideBySide
from exuvia.vcpu.software import SoftwareVcpu


class SoftwareX86(SoftwareVcpu, Processor):
    """An x86 processor in software."""


class SideBySideX86(SideBySide, Processor):
    """One with regions and interpreter side by side."""
