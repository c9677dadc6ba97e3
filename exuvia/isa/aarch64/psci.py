"""The Power State Coordination Interface 1.1 (DEN 0022), which the machine answers where no firmware is: calls by HVC or SMC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exuvia.isa.aarch64.processor import Processor

VERSION = 1 << 16 | 1
SUCCESS, NOT_SUPPORTED, INVALID_PARAMETERS, DENIED, ALREADY_ON, ON_PENDING, INTERNAL_FAILURE, NOT_PRESENT = (-n for n in range(8))
AFFINITY = 0xFF_00FF_FFFF
CALLS = {
    0x84000000: "version", 0x84000001: "cpu_suspend", 0xC4000001: "cpu_suspend", 0x84000002: "cpu_off", 0x84000003: "cpu_on",
    0xC4000003: "cpu_on", 0x84000004: "affinity_info", 0xC4000004: "affinity_info", 0x84000006: "migrate_info_type",
    0x84000008: "system_off", 0x84000009: "system_reset", 0x8400000A: "features",
}  # fmt: skip


def call(p: Processor) -> None:
    """Function x0 with arguments in x1 to x3; the result in x0."""
    function = p.x[0] & 0xFFFFFFFF
    wide = function >> 30 & 1
    arguments = [p.x[i] if wide else p.x[i] & 0xFFFFFFFF for i in (1, 2, 3)]
    name = CALLS.get(function)
    result = globals()[name](p, *arguments) if name else NOT_SUPPORTED
    if result is not None:
        p.x[0] = result & (1 << 64) - 1


def find(p: Processor, affinity: int) -> Any:
    """The processor of an affinity, or None."""
    return next((v for v in p.machine.vcpus if v.mpidr_el1 & AFFINITY == affinity & AFFINITY), None)


def version(p: Processor, *_: int) -> int:
    return VERSION


def features(p: Processor, function: int, *_: int) -> int:
    return SUCCESS if function & 0xFFFFFFFF in CALLS else NOT_SUPPORTED


def cpu_suspend(p: Processor, *_: int) -> int:
    """A standby state, whatever was asked for: as WFI."""
    p.wait_for_interrupt()
    return SUCCESS


def cpu_off(p: Processor, *_: int) -> None:
    """It stays off until somebody starts it."""
    p.power_off()


def cpu_on(p: Processor, affinity: int, entry: int, context: int) -> int:
    other = find(p, affinity)
    if other is None:
        return INVALID_PARAMETERS
    if not other.powered_off:
        return ALREADY_ON
    other.power_on(entry, context, p.el)
    p.machine.attend(other)
    return SUCCESS


def affinity_info(p: Processor, affinity: int, level: int, *_: int) -> int:
    """0 is on, 1 off."""
    other = find(p, affinity)
    if other is None or level:
        return INVALID_PARAMETERS
    return int(other.powered_off)


def migrate_info_type(p: Processor, *_: int) -> int:
    """There is no trusted OS that would have to be migrated."""
    return 2


def system_off(p: Processor, *_: int) -> None:
    p.halt_for_good()
    p.machine.request_shutdown()


def system_reset(p: Processor, *_: int) -> None:
    p.halt_for_good()
    p.machine.request_reset("PSCI SYSTEM_RESET")
