"""`info SUBJECT`: one function per subject."""

from exuvia import __version__
from exuvia.monitor.monitor import Monitor
from exuvia.support.errors import unknown


def do_info(monitor: Monitor, subject: str = "") -> None:
    """show a subject: cpus, jit, mtree, qtree, registers, status or version"""
    if subject and subject not in SUBJECTS:
        raise unknown("subject", subject, SUBJECTS)
    if subject:
        SUBJECTS[subject](monitor)
        return
    for name, function in SUBJECTS.items():
        monitor.print(f"info {name} -- {function.__doc__}")


def _cpus(monitor: Monitor) -> None:
    """the processors; * marks the chosen one"""
    for vcpu in monitor.machine.vcpus:
        monitor.print(f"{'*' if vcpu.index == monitor.cpu else ' '} CPU #{vcpu.index}:{' (halted)' if vcpu.halted else ''}")


def _jit(monitor: Monitor) -> None:
    """what the compiler and the chosen processor counted: code, regions, store, TLB misses, exits by reason"""
    for name, count in monitor.processor.counters().items():
        monitor.print(f"{name:<24} {count}")


def _mtree(monitor: Monitor) -> None:
    """where RAM and ROM stand in physical memory"""
    for slot in monitor.machine.memory.slots:
        kind = "ram" if slot.writable else "rom"
        monitor.print(f"{slot.start:016x}-{slot.start + slot.size - 1:016x} {kind}")


def _qtree(monitor: Monitor) -> None:
    """the devices of the machine"""
    for label, device in monitor.machine.devices.items():
        monitor.print(f"{label}: {device.name}")


def _registers(monitor: Monitor) -> None:
    """the registers of the chosen processor"""
    monitor.print(monitor.processor.describe().rstrip("\n"))


def _status(monitor: Monitor) -> None:
    """whether the machine runs"""
    monitor.print(f"VM status: {monitor.machine.status}")


def _version(monitor: Monitor) -> None:
    """the version of Exuvia"""
    monitor.print(__version__)


SUBJECTS = {"cpus": _cpus, "jit": _jit, "mtree": _mtree, "qtree": _qtree, "registers": _registers, "status": _status, "version": _version}
