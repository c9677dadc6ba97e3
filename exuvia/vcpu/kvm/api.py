"""KVM's ioctls and structures for x86 (Linux, Documentation/virt/kvm/api.rst; include/uapi/linux/kvm.h, arch/x86's asm/kvm.h)."""

from __future__ import annotations

import ctypes
import os
from ctypes import Array, Structure, c_char, c_int32, c_uint8, c_uint16, c_uint32, c_uint64
from typing import Any

_WRITE, _READ = 1 << 30, 2 << 30


def _fields(text: str) -> list[tuple[str, Any]]:
    """`u32 a b; u64 c[4]` as ctypes wants it."""
    kinds: dict[str, Any] = {"u8": c_uint8, "u16": c_uint16, "u32": c_uint32, "u64": c_uint64, "s32": c_int32, "char": c_char}
    found: list[tuple[str, Any]] = []
    for group in text.split(";"):
        kind, *names = group.split()
        for name in names:
            bare, _, count = name.rstrip("]").partition("[")
            found.append((bare, kinds[kind] * int(count) if count else kinds[kind]))
    return found


class Region(Structure):
    """kvm_userspace_memory_region."""

    _fields_ = _fields("u32 slot flags; u64 address size host")


class DirtyLog(Structure):
    """kvm_dirty_log."""

    _fields_ = _fields("u32 slot padding; u64 bitmap")


class Registers(Structure):
    """kvm_regs."""

    _fields_ = _fields("u64 rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags")


class Segment(Structure):
    """kvm_segment."""

    _fields_ = _fields("u64 base; u32 limit; u16 selector; u8 type present dpl db s l g avl unusable padding")


class Table(Structure):
    """kvm_dtable."""

    _fields_ = _fields("u64 base; u16 limit padding[3]")


class SystemRegisters(Structure):
    """kvm_sregs."""

    _fields_ = [
        *((name, Segment) for name in "cs ds es fs gs ss tr ldtr".split()),
        ("gdt", Table),
        ("idt", Table),
        *_fields("u64 cr0 cr2 cr3 cr4 cr8 efer apic_base interrupt_bitmap[4]"),
    ]


class DebugRegisters(Structure):
    """kvm_debugregs."""

    _fields_ = _fields("u64 db[4] dr6 dr7 flags reserved[9]")


class Xsave(Structure):
    """kvm_xsave."""

    _fields_ = _fields("u8 region[4096]")


class Xcrs(Structure):
    """kvm_xcrs, of which KVM uses XCR0 alone."""

    _fields_ = _fields("u32 count flags xcr reserved; u64 value rest[30] padding[16]")


class Events(Structure):
    """kvm_vcpu_events, its inner structures' names joined."""

    _fields_ = _fields(
        "u8 exception_injected exception_nr exception_has_error exception_pending; u32 exception_error;"
        "u8 interrupt_injected interrupt_nr interrupt_soft interrupt_shadow nmi_injected nmi_pending nmi_masked nmi_pad;"
        "u32 sipi_vector flags; u8 smm smm_pending smm_inside_nmi latched_init triple_fault reserved[26] has_payload; u64 payload"
    )


class MsrEntry(Structure):
    """kvm_msr_entry."""

    _fields_ = _fields("u32 index reserved; u64 data")


class CpuidEntry(Structure):
    """kvm_cpuid_entry2."""

    _fields_ = _fields("u32 function index flags eax ebx ecx edx padding[3]")


class Capability(Structure):
    """kvm_enable_cap."""

    _fields_ = _fields("u32 cap flags; u64 args[4]; u8 pad[64]")


class DeviceAttribute(Structure):
    """kvm_device_attr."""

    _fields_ = _fields("u32 flags group; u64 attribute address")


class ClockData(Structure):
    """kvm_clock_data."""

    _fields_ = _fields("u64 clock; u32 flags pad0; u64 realtime host_tsc; u32 pad[4]")


class Irqchip(Structure):
    """kvm_irqchip."""

    _fields_ = _fields("u32 chip pad; u8 state[512]")


class Lapic(Structure):
    """kvm_lapic_state: the registers' page, as the guest sees it."""

    _fields_ = _fields("u8 registers[1024]")


class IrqLevel(Structure):
    """kvm_irq_level."""

    _fields_ = _fields("u32 irq level")


class Msi(Structure):
    """kvm_msi."""

    _fields_ = _fields("u32 address_low address_high data flags device; u8 pad[12]")


class Route(Structure):
    """kvm_irq_routing_entry; `one` to `three` are chip and pin, or an MSI's address (low, high) and data."""

    _fields_ = _fields("u32 gsi type flags pad one two three rest[5]")


class Irqfd(Structure):
    """kvm_irqfd."""

    _fields_ = _fields("u32 fd gsi flags resample; u8 pad[16]")


class Ioeventfd(Structure):
    """kvm_ioeventfd."""

    _fields_ = _fields("u64 match address; u32 size; s32 fd; u32 flags; u8 pad[36]")


class SignalMask(Structure):
    """kvm_signal_mask with the kernel's own eight bytes of mask."""

    _fields_ = _fields("u32 size; u8 mask[8]")


class Run(Structure):
    """kvm_run's head; what an exit says follows at EXIT."""

    _fields_ = _fields(
        "u8 request_interrupt_window immediate_exit padding[6]; u32 exit_reason; u8 ready if_flag; u16 flags; u64 cr8 apic_base"
    )


EXIT = ctypes.sizeof(Run)


class Io(Structure):
    """kvm_run's `io`; direction 1 is out."""

    _fields_ = _fields("u8 direction size; u16 port; u32 count; u64 data")


class Mmio(Structure):
    """kvm_run's `mmio`."""

    _fields_ = _fields("u64 address; u8 data[8]; u32 size; u8 is_write")


class InternalError(Structure):
    """kvm_run's `internal`, and of an emulation failure its instruction."""

    _fields_ = _fields("u32 suberror ndata; u64 flags; u8 length code[15]")


def _code(number: int, kind: type[Structure] | int | None = None, direction: int = 0) -> int:
    size = kind if isinstance(kind, int) else 0 if kind is None else ctypes.sizeof(kind)
    return direction | size << 16 | 0xAE << 8 | number


# /dev/kvm
GET_API_VERSION, CREATE_VM, CHECK_EXTENSION, GET_VCPU_MMAP_SIZE = (_code(n) for n in (0, 1, 3, 4))
GET_MSR_INDEX_LIST, GET_SUPPORTED_CPUID = _code(2, 4, _READ | _WRITE), _code(5, 8, _READ | _WRITE)
# a virtual machine
CREATE_VCPU, SET_TSS_ADDR, CREATE_IRQCHIP = (_code(n) for n in (0x41, 0x47, 0x60))
GET_DIRTY_LOG, SET_USER_MEMORY_REGION = _code(0x42, DirtyLog, _WRITE), _code(0x46, Region, _WRITE)
SET_IDENTITY_MAP_ADDR = _code(0x48, 8, _WRITE)
IRQ_LINE, SET_GSI_ROUTING = _code(0x61, IrqLevel, _WRITE), _code(0x6A, 8, _WRITE)
GET_IRQCHIP, SET_IRQCHIP = _code(0x62, Irqchip, _READ | _WRITE), _code(0x63, Irqchip, _READ)
IRQFD, IOEVENTFD, SIGNAL_MSI = _code(0x76, Irqfd, _WRITE), _code(0x79, Ioeventfd, _WRITE), _code(0xA5, Msi, _WRITE)
SET_CLOCK, GET_CLOCK = _code(0x7B, ClockData, _WRITE), _code(0x7C, ClockData, _READ)
ENABLE_CAP = _code(0xA3, Capability, _WRITE)
# a processor
RUN, NMI = _code(0x80), _code(0x9A)
GET_REGS, SET_REGS = _code(0x81, Registers, _READ), _code(0x82, Registers, _WRITE)
GET_SREGS, SET_SREGS = _code(0x83, SystemRegisters, _READ), _code(0x84, SystemRegisters, _WRITE)
INTERRUPT, SET_SIGNAL_MASK, SET_CPUID2 = _code(0x86, 4, _WRITE), _code(0x8B, 4, _WRITE), _code(0x90, 8, _WRITE)
GET_MSRS, SET_MSRS = _code(0x88, 8, _READ | _WRITE), _code(0x89, 8, _WRITE)
GET_LAPIC, SET_LAPIC = _code(0x8E, Lapic, _READ), _code(0x8F, Lapic, _WRITE)
GET_MP_STATE, SET_MP_STATE = _code(0x98, 4, _READ), _code(0x99, 4, _WRITE)
GET_VCPU_EVENTS, SET_VCPU_EVENTS = _code(0x9F, Events, _READ), _code(0xA0, Events, _WRITE)
GET_DEBUGREGS, SET_DEBUGREGS = _code(0xA1, DebugRegisters, _READ), _code(0xA2, DebugRegisters, _WRITE)
GET_XSAVE, SET_XSAVE = _code(0xA4, Xsave, _READ), _code(0xA5, Xsave, _WRITE)
GET_XCRS, SET_XCRS = _code(0xA6, Xcrs, _READ), _code(0xA7, Xcrs, _WRITE)
SET_DEVICE_ATTR, GET_DEVICE_ATTR = (_code(n, DeviceAttribute, _WRITE) for n in (0xE1, 0xE2))

# capabilities
CAP_IRQCHIP, CAP_USER_MEMORY, CAP_READONLY_MEM = 0, 3, 81
CAP_NR_VCPUS, CAP_NR_MEMSLOTS, CAP_VCPU_EVENTS, CAP_DEBUGREGS, CAP_XSAVE, CAP_MAX_VCPUS = 9, 10, 41, 50, 55, 66
CAP_SPLIT_IRQCHIP, CAP_IMMEDIATE_EXIT = 121, 136

# memory regions
LOG_DIRTY_PAGES, READONLY = 1, 2
# what a processor comes back for
EXIT_IO, EXIT_HLT, EXIT_MMIO, EXIT_IRQ_WINDOW_OPEN, EXIT_SHUTDOWN, EXIT_FAIL_ENTRY, EXIT_INTR = 2, 5, 6, 7, 8, 9, 10
EXIT_SET_TPR, EXIT_INTERNAL_ERROR, EXIT_SYSTEM_EVENT, EXIT_IOAPIC_EOI = 11, 17, 24, 26
EXITS = {
    0: "unknown", EXIT_IO: "io", EXIT_HLT: "hlt", EXIT_MMIO: "mmio", EXIT_IRQ_WINDOW_OPEN: "interrupt window", EXIT_SHUTDOWN: "shutdown",
    EXIT_FAIL_ENTRY: "failed entry", EXIT_INTR: "signal", EXIT_SET_TPR: "task priority", EXIT_INTERNAL_ERROR: "internal error",
    EXIT_SYSTEM_EVENT: "system event", EXIT_IOAPIC_EOI: "end of interrupt",
}  # fmt: skip
RUNNABLE, UNINITIALIZED, INIT_RECEIVED, HALTED = range(4)
"""kvm_mp_state."""
CPUID_INDEXED = 1
"""A CPUID entry counts for its index only."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes, _libc.ioctl.restype = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p], ctypes.c_int


def ioctl(fd: int, request: int, argument: Any = 0) -> int:
    """An ioctl; raises OSError. `argument` is a number, or an object of ctypes that is passed by reference."""
    passed = argument if isinstance(argument, int) else ctypes.addressof(argument)
    result: int = _libc.ioctl(fd, request, passed)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def run(fd: int) -> int:
    """KVM_RUN, the GIL released; 0 or an error number."""
    return 0 if _libc.ioctl(fd, RUN, 0) == 0 else ctypes.get_errno()


def variable(entries: Array[Any]) -> Any:
    """{count, padding, entries}: what lists are passed as."""

    class Listed(Structure):
        _fields_ = [("count", c_uint32), ("padding", c_uint32), ("entries", type(entries))]

    return Listed(len(entries), 0, entries)
