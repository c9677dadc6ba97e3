"""The guest's RAM as KVM knows it: memory slots, and which pages were written (Linux, Documentation/virt/kvm/api.rst, 4.35 and 4.8)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator

from exuvia.memory.ram import Ram
from exuvia.memory.space import Slot
from exuvia.support.errors import UserError
from exuvia.vcpu.kvm import api

PAGE = 4096


class Slots:
    """The memory slots of the virtual machine `vm`, which show parts of `ram`."""

    def __init__(self, vm: int, ram: Ram, limit: int) -> None:
        self._vm, self._ram = vm, ram
        self._numbers: dict[Slot, int] = {}
        self._free = list(range(limit - 1, -1, -1))
        self._logging = False
        self._written: set[int] = set()  # pages of the Ram

    def update(self, wanted: Iterable[Slot]) -> None:
        """Show these. Only whole pages can be: what else there is of RAM is reached as a device is, slowly."""
        target = {whole for slot in wanted if (whole := _whole_pages(slot)) is not None}
        for slot in self._numbers.keys() - target:
            self._collect(slot)
            number = self._numbers.pop(slot)
            self._set(number, slot._replace(size=0))
            self._free.append(number)
        for slot in sorted(target - self._numbers.keys()):
            if not self._free:
                raise UserError("-accel kvm: the guest's memory is in more pieces than this host's KVM can keep apart")
            number = self._free.pop()
            self._set(number, slot)
            self._numbers[slot] = number

    def _set(self, number: int, slot: Slot) -> None:
        flags = (0 if slot.writable else api.READONLY) | (api.LOG_DIRTY_PAGES if self._logging and slot.size else 0)
        region = api.Region(number, flags, slot.start, slot.size, self._ram.address + slot.offset)
        api.ioctl(self._vm, api.SET_USER_MEMORY_REGION, region)

    def log(self, on: bool) -> None:
        """Begin, or end, to note which pages are written: by the guest, and by who reports to the Ram (loaders, devices)."""
        if on == self._logging:
            return
        self._logging = on
        self._written.clear()
        for slot, number in self._numbers.items():
            self._set(number, slot)
        if on:
            self._ram.on_write.append(self._note)
        else:
            self._ram.on_write.remove(self._note)

    def written(self) -> Iterator[tuple[int, int]]:
        """Offset and length in the Ram of what was written since the last time, in order."""
        for slot in self._numbers:
            self._collect(slot)
        pages, self._written = sorted(self._written), set()
        start = end = 0
        for page in pages:
            if page != end:
                if end > start:
                    yield start * PAGE, (end - start) * PAGE
                start = page
            end = page + 1
        if end > start:
            yield start * PAGE, (end - start) * PAGE

    def lost_track(self) -> None:
        """Something was written that nobody noted: all counts as written."""
        if self._logging:
            self._note(0, self._ram.size)

    def _note(self, offset: int, length: int) -> None:
        self._written.update(range(offset // PAGE, -(-(offset + length) // PAGE)))

    def _collect(self, slot: Slot) -> None:
        if not self._logging:
            return
        words = (ctypes.c_uint64 * -(-slot.size // (64 * PAGE)))()
        api.ioctl(self._vm, api.GET_DIRTY_LOG, api.DirtyLog(self._numbers[slot], 0, ctypes.addressof(words)))
        first = slot.offset // PAGE
        for place, word in enumerate(words):
            while word:
                bit = (word & -word).bit_length() - 1
                self._written.add(first + 64 * place + bit)
                word &= word - 1


def _whole_pages(slot: Slot) -> Slot | None:
    """The whole pages of a slot; None where it has none, or where guest and host pages do not coincide."""
    start, end = -(-slot.start // PAGE) * PAGE, (slot.start + slot.size) // PAGE * PAGE
    offset = slot.offset + start - slot.start
    return Slot(start, end - start, offset, slot.writable) if end > start and not offset % PAGE else None
