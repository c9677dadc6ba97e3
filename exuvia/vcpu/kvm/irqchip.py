"""Interrupt controllers in the kernel: all of them (`kernel-irqchip=on`), or the local APICs alone (`split`).

The machine's own devices stay in their places and keep their state whenever the kernel does not have it. While it has, they pass on what
comes in (`remote` of I8259, IoApic and ApicBus), and the guest's accesses to them never leave the kernel.
"""

from __future__ import annotations

from ctypes import c_uint32, c_uint64
from typing import TYPE_CHECKING, Any

from exuvia.vcpu.kvm import api, routes

if TYPE_CHECKING:
    from exuvia.vcpu.kvm.vm import Vm

ICW_STEPS = {(2, 3, 4): (1, 1), (3, 4): (2, 1), (4,): (3, 1), (2, 3): (1, 0), (3,): (2, 0), (2,): (1, 0), (2, 4): (1, 1), (): (0, 0)}
"""What an 8259 still expects, as KVM says it: step, and whether ICW4 will come."""
PIC_FIELDS = {
    "lines": 0, "requests": 1, "mask": 2, "service": 3, "top": 4, "vector": 5, "read_service": 6, "polled": 7, "special_mask": 8,
    "automatic_eoi": 10, "rotate_automatically": 11, "nested": 12, "elcr": 14,
}  # fmt: skip
"""Of an 8259: our names, KVM's places in kvm_pic_state."""
INIT_STATE, INIT4, ELCR_MASK = 9, 13, 15
APIC_REGISTERS = {
    "id": 0x20, "version": 0x30, "tpr": 0x80, "ldr": 0xD0, "dfr": 0xE0, "svr": 0xF0, "esr": 0x280, "icr": 0x300, "icr_high": 0x310,
    "lvt_timer": 0x320, "lvt_thermal": 0x330, "lvt_counters": 0x340, "lvt_lint0": 0x350, "lvt_lint1": 0x360, "lvt_error": 0x370,
    "initial_count": 0x380, "divide": 0x3E0,
}  # fmt: skip
"""Of a local APIC (SDM vol. 3, table 11-1): our names, the offsets."""
APIC_BITMAPS = {"service": 0x100, "trigger": 0x180, "requests": 0x200}
CURRENT_COUNT, PERIODIC, MASKED, LEVEL = 0x390, 1 << 17, 1 << 16, 1 << 15


class KernelIrqchip:
    """The kernel's controllers of a virtual machine, made before its processors. `all_of_them` is `kernel-irqchip=on`."""

    def __init__(self, vm: Vm, all_of_them: bool) -> None:
        self.vm, self.all_of_them = vm, all_of_them
        devices = vm.machine.devices
        self.ioapic, self.pics = devices["ioapic"], (devices["pic0"], devices["pic1"])
        self.bus = self.ioapic.bus
        if all_of_them:
            api.ioctl(vm.fd, api.CREATE_IRQCHIP)
            vm.routes.wire_chips()
        else:
            api.ioctl(vm.fd, api.ENABLE_CAP, api.Capability(api.CAP_SPLIT_IRQCHIP, 0, (c_uint64 * 4)(routes.PINS)))

    def take_over(self) -> None:
        """The devices' work is the kernel's from now on."""
        self.bus.remote = self._send
        if self.all_of_them:
            self.store()
            for number, pic in enumerate(self.pics):
                pic.remote = self._input(routes.PIC_FIRST + 8 * number)
                pic.requests = 0  # of those the kernel knows
                pic.refresh()
            self.ioapic.remote = self._input(0)
        else:
            self.ioapic.on_entries = self._reroute
            self._reroute()
        for apic in self.bus.processors:
            apic.refresh()

    def let_go(self) -> None:
        """Theirs again."""
        if self.all_of_them:
            self.ioapic.remote = self.pics[0].remote = self.pics[1].remote = None
            self.load()
        self.ioapic.on_entries = None
        self.bus.remote = None
        for chip in (*self.pics, *self.bus.processors):
            chip.refresh()

    def _input(self, first: int) -> Any:
        return lambda number, level: routes.set_line(self.vm.fd, first + number, level)

    def _send(self, message: Any) -> bool:
        """An interrupt message of the I/O APIC or of a device (SDM vol. 3, 11.11)."""
        return routes.signal_message(self.vm.fd, _as_msi(message))

    def _reroute(self) -> None:
        """The kernel is told of the I/O APIC's messages, that it may report the end of those that are levels."""
        for number, message in enumerate(self.ioapic.messages()):
            self.vm.routes.set_message(number, None if message is None else _as_msi(message))

    # -- the chips' state
    def store(self) -> None:
        """To the kernel: the 8259s and the I/O APIC. The second 8259 first: an old request of its would be one of the first's for ever."""
        for number, pic in reversed([*enumerate(self.pics)]):
            saved, chip = pic.save(), api.Irqchip(number)
            for name, at in PIC_FIELDS.items():
                chip.state[at] = int(saved[name])
            chip.state[INIT_STATE], chip.state[INIT4] = ICW_STEPS[tuple(saved["expected"])]
            chip.state[ELCR_MASK] = pic.level_inputs
            api.ioctl(self.vm.fd, api.SET_IRQCHIP, chip)
        for pin in range(routes.PIC_PINS):
            if self.pics[pin >> 3].lines >> (pin & 7) & 1 and pin != 2:
                routes.set_line(self.vm.fd, routes.PIC_FIRST + pin, True)
        chip, words = api.Irqchip(routes.IOAPIC), c_uint32 * 6
        level = sum(1 << pin for pin, entry in enumerate(self.ioapic.entries) if entry & LEVEL)
        head = words.from_buffer(chip.state)
        head[:] = [0xFEC00000, 0, int(self.ioapic.select), int(self.ioapic.id) >> 24, self.ioapic.lines & level, 0]
        (c_uint64 * routes.PINS).from_buffer(chip.state, 24)[:] = self.ioapic.entries
        api.ioctl(self.vm.fd, api.SET_IRQCHIP, chip)
        for pin in range(routes.PINS):
            if self.ioapic.lines >> pin & 1:
                routes.set_line(self.vm.fd, pin, True)

    def load(self) -> None:
        """From the kernel."""
        for number, pic in enumerate(self.pics):
            saved, chip = pic.save(), api.Irqchip(number)
            api.ioctl(self.vm.fd, api.GET_IRQCHIP, chip)
            for name, at in PIC_FIELDS.items():
                saved[name] = type(saved[name])(chip.state[at])
            step = chip.state[INIT_STATE], chip.state[INIT4] if chip.state[INIT_STATE] else 0
            saved["expected"] = next(list(words) for words, known in ICW_STEPS.items() if known == step)
            pic.load(saved)
        saved, chip = self.ioapic.save(), api.Irqchip(routes.IOAPIC)
        api.ioctl(self.vm.fd, api.GET_IRQCHIP, chip)
        head = (c_uint32 * 6).from_buffer(chip.state)
        saved["select"], saved["id"] = head[2], head[3] << 24
        saved["entries"] = [entry & ~(1 << 12) for entry in (c_uint64 * routes.PINS).from_buffer(chip.state, 24)]
        self.ioapic.load(saved)


def _as_msi(message: Any) -> routes.MsiMessage:
    address = 0xFEE00000 | message.destination << 12 | (1 << 3 if message.mode == 1 else 0) | message.logical << 2
    return routes.MsiMessage(address, message.vector | message.mode << 8 | (message.level and (1 << 14 | 1 << 15)))


# -- local APICs


def store_apic(fd: int, apic: Any) -> None:
    """A processor's local APIC to the kernel."""
    page = api.Lapic()
    words = (c_uint32 * 256).from_buffer(page)
    saved = apic.save()
    for name, at in APIC_REGISTERS.items():
        words[at // 4] = saved[name]
    for name, at in APIC_BITMAPS.items():
        for i in range(8):
            words[at // 4 + 4 * i] = saved[name] >> 32 * i & 0xFFFFFFFF
    words[CURRENT_COUNT // 4] = apic.read(CURRENT_COUNT, 4)
    api.ioctl(fd, api.SET_LAPIC, page)
    apic.tick.cancel()


def load_apic(fd: int, apic: Any) -> None:
    """And back: the timer's count goes on from here."""
    page = api.Lapic()
    api.ioctl(fd, api.GET_LAPIC, page)
    words = (c_uint32 * 256).from_buffer(page)
    saved = apic.save()
    for name, at in APIC_REGISTERS.items():
        saved[name] = words[at // 4]
    for name, at in APIC_BITMAPS.items():
        saved[name] = sum(words[at // 4 + 4 * i] << 32 * i for i in range(8))
    left, initial = words[CURRENT_COUNT // 4], saved["initial_count"]
    divisor = 1 if saved["divide"] & 0xB == 0xB else 2 << (saved["divide"] >> 1 & 4 | saved["divide"] & 3)
    now, timer = apic.clock.now(), saved["lvt_timer"]
    saved["loaded_at"], saved["expired"] = now - (initial - left) * divisor, not left and not timer & PERIODIC
    saved["tick"] = now + left * divisor if initial and left and not timer & MASKED else None
    apic.load(saved)
