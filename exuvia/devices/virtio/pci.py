"""The transport over PCI (VIRTIO 1.2, section 4.1): capabilities, configuration, queues, interrupts. There is no legacy interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from exuvia.devices.device import Reg, State, Word
from exuvia.devices.pci.device import BUS_MASTER, Bar, PciDevice
from exuvia.devices.pci.msix import SIZE as MSIX_SIZE
from exuvia.devices.pci.msix import Msix
from exuvia.devices.virtio.virtqueue import LARGEST, NO_VECTOR, Broken, Chain, Virtqueue
from exuvia.support import log
from exuvia.support.bits import bit

CAP_VENDOR = 0x09
COMMON, NOTIFY, ISR, DEVICE, PCI_CFG = 1, 2, 3, 4, 5  # cfg_type
MSIX_CAP, COMMON_CAP, ISR_CAP, DEVICE_CAP, NOTIFY_CAP, WINDOW_CAP = 0x40, 0x50, 0x60, 0x70, 0x80, 0x94  # where capabilities stand
WINDOW_DATA = WINDOW_CAP + 16
MSIX_BAR, BAR = 1, 4
ISR_AT, DEVICE_AT, NOTIFY_AT, BAR_SIZE = 0x1000, 0x2000, 0x3000, 0x4000  # the structures in the BAR
NOTIFY_STEP = 4  # bytes between the notification addresses of two queues

DRIVER_OK, FEATURES_OK, NEEDS_RESET = 4, 8, 64
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
QUEUE_INTERRUPT, CONFIG_INTERRUPT = 1, 2


class Pending(Protocol):
    """What the host's side does, as `concurrent.futures.Future`; callbacks come from any thread."""

    def exception(self, timeout: float | None = None, /) -> BaseException | None:
        """Wait; what went wrong."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        """Have `function` called with this when it is over."""


class VirtioPci(PciDevice):
    """A virtio device on PCI. A device says how many queues it has and what it offers, and carries out requests.

    `serve` carries a request out and calls `finish`, or begins it and hands what is Pending to `later`.
    """

    vendor_id, revision = 0x1AF4, 1
    interrupt_pin = 1
    bars = {MSIX_BAR: Bar(MSIX_SIZE), BAR: Bar(BAR_SIZE, wide=True, prefetchable=True)}
    window = BAR_SIZE
    accesses = (1, 2, 4)
    queue_count: ClassVar[int] = 1

    device_feature_select = Reg(0x00, 32)
    device_feature = Reg(0x04, 32, writable=0)
    driver_feature_select = Reg(0x08, 32)
    driver_feature = Reg(0x0C, 32)
    config_msix_vector = Reg(0x10, 16, reset=NO_VECTOR)
    num_queues = Reg(0x12, 16, writable=0)
    device_status = Reg(0x14, 8, driver_ok=bit[2], features_ok=bit[3], needs_reset=bit[6])
    config_generation = Reg(0x15, 8, writable=0)
    queue_select = Reg(0x16, 16)
    queue_size = Reg(0x18, 16)
    queue_msix_vector = Reg(0x1A, 16)
    queue_enable = Reg(0x1C, 16)
    queue_notify_off = Reg(0x1E, 16, writable=0)
    queue_desc = Reg(0x20, 32)
    queue_desc_high = Reg(0x24, 32)
    queue_driver = Reg(0x28, 32)
    queue_driver_high = Reg(0x2C, 32)
    queue_device = Reg(0x30, 32)
    queue_device_high = Reg(0x34, 32)
    isr = Reg(ISR_AT, 8, writable=0)

    features = State(0)  # what the driver accepted

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self.queues = [Virtqueue() for _ in range(self.queue_count)]
        self._running: dict[Pending, tuple[Virtqueue, Chain]] = {}
        self._msix: Msix | None = None
        super().__init__(clock, **properties)
        self._msix = Msix(self, MSIX_CAP, MSIX_BAR, 1 + self.queue_count)
        self._capability(COMMON_CAP, COMMON, 0, 0x38)
        self._capability(ISR_CAP, ISR, ISR_AT, 1)
        self._capability(DEVICE_CAP, DEVICE, DEVICE_AT, len(self.config()))
        self._capability(NOTIFY_CAP, NOTIFY, NOTIFY_AT, NOTIFY_STEP * self.queue_count, NOTIFY_STEP.to_bytes(4, "little"))
        self._capability(WINDOW_CAP, PCI_CFG, 0, 0, bytes(4))
        self.writable(WINDOW_CAP + 4, b"\xff")
        self.writable(WINDOW_CAP + 8, b"\xff" * 12)

    def _capability(self, at: int, kind: int, offset: int, length: int, more: bytes = b"") -> None:
        content = bytes([16 + len(more), kind, BAR, 0, 0, 0]) + offset.to_bytes(4, "little") + length.to_bytes(4, "little") + more
        self.add_capability(CAP_VENDOR, at, content, b"")

    # What a device says and does

    def offered(self) -> int:
        """The device's own feature bits; those of the transport and the queues are added."""
        raise NotImplementedError

    def config(self) -> bytes:
        """The device's configuration structure as the driver reads it."""
        raise NotImplementedError

    def set_config(self, offset: int, value: int) -> None:
        """The driver wrote a byte of it."""

    def serve(self, queue: Virtqueue, chain: Chain) -> None:
        """Begin a request. Raises Broken."""
        raise NotImplementedError

    def finished(self, chain: Chain, future: Pending) -> int:
        """The request that `later` was told of is done: say so in its memory; how many bytes of that were written."""
        raise NotImplementedError

    # Queues

    def notify(self, number: int) -> None:
        """The driver says that there are requests in queue `number`."""
        if number >= len(self.queues) or not self._live() or self.dma is None:
            return
        queue = self.queues[number]
        try:
            while queue.enabled and len(self._running) < len(self.queues) * LARGEST:
                chain = queue.pop(self.dma)
                if chain is not None:
                    self.serve(queue, chain)
                    continue
                if self.features & EVENT_IDX:
                    queue.ask_for_notification(self.dma)
                break
            self._tell(queue)
        except Broken as error:
            self._break(error)

    def later(self, queue: Virtqueue, chain: Chain, future: Pending) -> None:
        """The request is done when `future` is."""
        self._running[future] = queue, chain
        future.add_done_callback(lambda done: self.post(lambda: self._done(done)))

    def finish(self, queue: Virtqueue, chain: Chain, written: int) -> None:
        """The request is done. Raises Broken."""
        if self.dma is not None:
            queue.push(self.dma, chain.head, written)

    def _done(self, future: Pending) -> None:
        queue, chain = self._running.pop(future, (None, None))
        if queue is None or chain is None:  # reset meanwhile
            return
        try:
            self.finish(queue, chain, self.finished(chain, future))
            self._tell(queue)
        except Broken as error:
            self._break(error)
            return
        self.notify(self.queues.index(queue))  # what waited because too much was running

    def _tell(self, queue: Virtqueue) -> None:
        if self.dma is not None and queue.wants_interrupt(self.dma, bool(self.features & EVENT_IDX)):
            self._signal(queue.vector, QUEUE_INTERRUPT)

    def _live(self) -> bool:
        return bool(self.device_status.driver_ok and not self.device_status.needs_reset and self.command & BUS_MASTER)

    def _break(self, error: Broken) -> None:
        log.guest_errors(f"{self.name}: {error}")
        self.device_status = self.device_status | NEEDS_RESET
        self._signal(int(self.config_msix_vector), CONFIG_INTERRUPT)

    def _signal(self, vector: int, cause: int) -> None:
        if self._msix is not None and self._msix.enabled:
            self._msix.send(vector)
        else:
            self.isr = self.isr | cause
            self.interrupt(True)

    def settle(self) -> None:
        """Wait for what is under way and finish it: nothing reaches memory afterwards."""
        while self._running:
            for future in list(self._running):
                future.exception()
                self._done(future)

    # Reset, save, load

    def _restart(self) -> None:
        """A reset by the driver: requests under way end without an answer."""
        for future, (_, chain) in self._running.items():
            future.exception()
            if self.dma is not None:
                self.dma.written(chain.writable)
        self._running.clear()
        for queue in self.queues:
            queue.reset()
        for name in ("config_msix_vector", "device_status", "queue_select", "driver_feature", "isr"):
            setattr(self, name, self.registers[name].reset)
        self.features = 0
        self.interrupt(False)

    def reset(self) -> None:
        """As after power-on; what is under way is waited for."""
        super().reset()
        self._restart()
        if self._msix is not None:
            self._msix.reset()

    def save(self) -> dict[str, Any]:
        """The state, after what is under way."""
        self.settle()
        assert self._msix is not None
        return super().save() | {"queues": [queue.save() for queue in self.queues], "msix": self._msix.save()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take the saved state."""
        assert self._msix is not None
        for queue, state in zip(self.queues, saved["queues"], strict=True):
            queue.load(state)
        self._msix.load(saved["msix"])
        super().load(saved)

    # The structures in the BAR

    def bar_target(self, index: int) -> Any:
        """The table of MSI-X, or the device."""
        return self._msix if index == MSIX_BAR else self

    def read(self, offset: int, size: int) -> int:
        """The device's configuration is its own, the rest are registers."""
        if DEVICE_AT <= offset < NOTIFY_AT:
            at = offset - DEVICE_AT
            return int.from_bytes(self.config()[at : at + size], "little")
        return 0 if offset >= NOTIFY_AT else super().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Anything written at a queue's notification address is a notification."""
        if offset >= NOTIFY_AT:
            self.notify((offset - NOTIFY_AT) // NOTIFY_STEP)
        elif offset >= DEVICE_AT:
            for at, byte in enumerate(value.to_bytes(size, "little"), offset - DEVICE_AT):
                self.set_config(at, byte)
        else:
            super().write(offset, size, value)

    def _all_features(self) -> int:
        return self.offered() | INDIRECT_DESC | EVENT_IDX | VERSION_1

    @device_feature.read
    def read_device_feature(self) -> int:
        """32 of the bits that are offered."""
        return self._all_features() >> 32 * self.device_feature_select & 0xFFFFFFFF if self.device_feature_select < 2 else 0

    @driver_feature.read
    def read_driver_feature(self) -> int:
        """32 of the bits that were accepted."""
        return self.features >> 32 * self.driver_feature_select & 0xFFFFFFFF if self.driver_feature_select < 2 else 0

    @driver_feature.write
    def write_driver_feature(self, value: int) -> None:
        """Until FEATURES_OK."""
        if self.driver_feature_select < 2 and not self.device_status.features_ok:
            shift = 32 * int(self.driver_feature_select)
            self.features = self.features & ~(0xFFFFFFFF << shift) | int(value) << shift

    @num_queues.read
    def read_num_queues(self) -> int:
        """How many there are."""
        return len(self.queues)

    @config_msix_vector.write
    def write_config_vector(self, value: int) -> None:
        """One that does not exist is refused."""
        self.config_msix_vector = self._vector(value)

    def _vector(self, value: int) -> int:
        return int(value) if self._msix is not None and value < self._msix.vectors else NO_VECTOR

    @device_status.write
    def write_status(self, value: Word) -> None:
        """0 resets; FEATURES_OK stays only where the driver accepted what is offered, and VERSION_1."""
        if not value:
            self._restart()
            return
        understood = self.features & VERSION_1 and not self.features & ~self._all_features()
        if value.features_ok and not self.device_status.features_ok and not understood:
            value = value.replace(features_ok=0)
        self.device_status = value | self.device_status & NEEDS_RESET

    @isr.read
    def read_isr(self) -> int:
        """Reading takes the interrupt away."""
        cause = int(self.isr)
        self.isr = 0
        self.interrupt(False)
        return cause

    # The selected queue

    def _queue(self) -> Virtqueue:
        return self.queues[self.queue_select] if self.queue_select < len(self.queues) else Virtqueue(size=0)

    def _open(self) -> Virtqueue:
        """The queue for a change; one that is enabled, or does not exist, is not changed."""
        queue = self._queue()
        return Virtqueue() if queue.enabled else queue

    @queue_size.read
    def read_queue_size(self) -> int:
        """0 for a queue that does not exist."""
        return self._queue().size

    @queue_size.write
    def write_queue_size(self, value: int) -> None:
        """A power of two."""
        if 0 < value <= LARGEST and not value & (value - 1):
            self._open().size = int(value)

    @queue_msix_vector.read
    def read_queue_vector(self) -> int:
        """Its message."""
        return self._queue().vector

    @queue_msix_vector.write
    def write_queue_vector(self, value: int) -> None:
        """One that does not exist is refused."""
        self._queue().vector = self._vector(value)

    @queue_enable.read
    def read_queue_enable(self) -> int:
        """Whether it runs."""
        return self._queue().enabled

    @queue_enable.write
    def write_queue_enable(self, value: int) -> None:
        """Only on; a reset turns it off."""
        if value == 1:
            self._queue().enabled = True

    @queue_notify_off.read
    def read_queue_notify_off(self) -> int:
        """Every queue has a notification address of its own."""
        return int(self.queue_select) if self.queue_select < len(self.queues) else 0

    # The BAR seen through configuration space (4.1.4.9)

    def read_config(self, offset: int, size: int) -> int:
        """Reading the window's data reads the BAR."""
        if self._in_window(offset, size):
            where = self._windowed()
            if where is not None:
                target, at, length = where
                self.configuration[WINDOW_DATA : WINDOW_DATA + 4] = target.read(at, length).to_bytes(4, "little")
        return super().read_config(offset, size)

    def write_config(self, offset: int, size: int, value: int) -> None:
        """Writing the window's data writes the BAR."""
        super().write_config(offset, size, value)
        if self._in_window(offset, size):
            where = self._windowed()
            if where is not None:
                target, at, length = where
                target.write(at, length, int.from_bytes(self.configuration[WINDOW_DATA : WINDOW_DATA + length], "little"))

    def config_written(self, offset: int, size: int) -> None:
        """The function mask of MSI-X may have gone."""
        if self._msix is not None and offset < MSIX_CAP + 4 and offset + size > MSIX_CAP:
            self._msix.unmasked()

    @staticmethod
    def _in_window(offset: int, size: int) -> bool:
        return offset < WINDOW_DATA + 4 and offset + size > WINDOW_DATA

    def _windowed(self) -> tuple[Any, int, int] | None:
        bar = self.configuration[WINDOW_CAP + 4]
        at, length = (int.from_bytes(self.configuration[WINDOW_CAP + skip :][:4], "little") for skip in (8, 12))
        if bar not in self.bars or length not in (1, 2, 4) or at % length or at + length > self.bars[bar].size:
            return None
        return self.bar_target(bar), at, length


def _half(name: str, shift: int, register: Reg) -> None:
    """A half of a queue's 64-bit address."""

    @register.read
    def read(device: VirtioPci) -> int:
        return int(getattr(device._queue(), name)) >> shift & 0xFFFFFFFF

    @register.write
    def write(device: VirtioPci, value: int) -> None:
        queue = device._open()
        setattr(queue, name, getattr(queue, name) & ~(0xFFFFFFFF << shift) | int(value) << shift)


for _name, _register in (("descriptors", "queue_desc"), ("driver", "queue_driver"), ("device", "queue_device")):
    _half(_name, 0, VirtioPci.registers[_register])
    _half(_name, 32, VirtioPci.registers[f"{_register}_high"])
