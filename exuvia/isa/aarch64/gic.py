"""Registers of a GICv3's CPU interface by their encodings; which of them EL1 has in place of the real ones (Arm IHI 0069, 12.2 to 12.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exuvia.isa.aarch64.faults import trap, undefined
from exuvia.isa.aarch64.paging import HCR_FMO, HCR_IMO

if TYPE_CHECKING:
    from exuvia.isa.aarch64.processor import Processor

TC, TALL0, TALL1, TDIR = (1 << bit for bit in (10, 11, 12, 14))  # of ICH_HCR_EL2
ICC = {
    (4, 6, 0): "ICC_PMR_EL1", (12, 8, 0): "ICC_IAR0_EL1", (12, 8, 1): "ICC_EOIR0_EL1", (12, 8, 2): "ICC_HPPIR0_EL1",
    (12, 8, 3): "ICC_BPR0_EL1", (12, 11, 1): "ICC_DIR_EL1", (12, 11, 3): "ICC_RPR_EL1", (12, 11, 5): "ICC_SGI1R_EL1",
    (12, 11, 6): "ICC_ASGI1R_EL1", (12, 11, 7): "ICC_SGI0R_EL1", (12, 12, 0): "ICC_IAR1_EL1", (12, 12, 1): "ICC_EOIR1_EL1",
    (12, 12, 2): "ICC_HPPIR1_EL1", (12, 12, 3): "ICC_BPR1_EL1", (12, 12, 4): "ICC_CTLR_EL1", (12, 12, 5): "ICC_SRE_EL1",
    (12, 12, 6): "ICC_IGRPEN0_EL1", (12, 12, 7): "ICC_IGRPEN1_EL1",
} | {(12, 8, 4 + n): f"ICC_AP0R{n}_EL1" for n in range(4)} | {(12, 9, n): f"ICC_AP1R{n}_EL1" for n in range(4)}  # fmt: skip
ICH = {
    (12, 9, 5): "ICC_SRE_EL2", (12, 11, 0): "ICH_HCR_EL2", (12, 11, 1): "ICH_VTR_EL2", (12, 11, 2): "ICH_MISR_EL2",
    (12, 11, 3): "ICH_EISR_EL2", (12, 11, 5): "ICH_ELRSR_EL2", (12, 11, 7): "ICH_VMCR_EL2",
} | {(12, 8 + group, n): f"ICH_AP{group}R{n}_EL2" for group in range(2) for n in range(4)} \
  | {(12, 12 + n // 8, n % 8): f"ICH_LR{n}_EL2" for n in range(16)}  # fmt: skip
COMMON = {"ICC_PMR_EL1", "ICC_CTLR_EL1", "ICC_DIR_EL1", "ICC_RPR_EL1"}
SGIS = {"ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1"}
WRITE_ONLY = SGIS | {"ICC_DIR_EL1", "ICC_EOIR0_EL1", "ICC_EOIR1_EL1"}
READ_ONLY = {
    "ICC_IAR0_EL1", "ICC_IAR1_EL1", "ICC_HPPIR0_EL1", "ICC_HPPIR1_EL1", "ICC_RPR_EL1",
    "ICH_VTR_EL2", "ICH_MISR_EL2", "ICH_EISR_EL2", "ICH_ELRSR_EL2",
}  # fmt: skip


def register(p: Processor, where: tuple[int, int, int, int, int], instruction: int) -> str | None:
    """The name of the register that is meant, if there is such an interface; Fault where EL2 wants to know of the access."""
    if not hasattr(p.controller, "read_register"):
        return None
    if where[:2] == (3, 4) and p.el == 2:
        name = ICH.get(where[2:])
    else:
        name = ICC.get(where[2:]) if where[:2] == (3, 0) else None
    if name in (WRITE_ONLY if instruction >> 21 & 1 else READ_ONLY):
        raise undefined()
    if where[1] == 4:
        return name
    if name is None or p.el != 1 or not p.has_el2 or name == "ICC_SRE_EL1":
        return name
    imo, fmo = p.hcr_el2 & HCR_IMO, p.hcr_el2 & HCR_FMO
    if name in SGIS:
        if imo or fmo:
            raise trap(instruction, el2=True)
        return name
    common = name in COMMON
    group1 = "1_EL1" in name or "AP1R" in name
    wanted = p.controller.read_register("ICH_HCR_EL2")
    if common and wanted & TC or not common and wanted & (TALL1 if group1 else TALL0) or name == "ICC_DIR_EL1" and wanted & TDIR:
        raise trap(instruction, el2=True)
    virtual = imo or fmo if common else imo if group1 else fmo
    return f"ICV{name[3:]}" if virtual else name
