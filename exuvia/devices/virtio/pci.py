"""The transport over PCI (VIRTIO 1.2, section 4.1): capabilities, configuration, queues, interrupts. There is no legacy interface."""

from __future__ import annotations

from typing import Any

from exuvia.devices.device import Choice, Reg
from exuvia.devices.pci.device import BUS_MASTER, Bar, PciDevice
from exuvia.devices.pci.msix import SIZE as MSIX_SIZE
from exuvia.devices.pci.msix import Msix
from exuvia.devices.virtio.virtio import Virtio, queue_addresses
from exuvia.devices.virtio.virtqueue import NO_VECTOR

CAP_VENDOR = 0x09
COMMON, NOTIFY, ISR, DEVICE, PCI_CFG = 1, 2, 3, 4, 5  # cfg_type
MSIX_CAP, COMMON_CAP, ISR_CAP, DEVICE_CAP, NOTIFY_CAP, WINDOW_CAP = 0x40, 0x50, 0x60, 0x70, 0x80, 0x94  # where capabilities stand
WINDOW_DATA = WINDOW_CAP + 16
MSIX_BAR, BAR = 1, 4
ISR_AT, DEVICE_AT, NOTIFY_AT, BAR_SIZE = 0x1000, 0x2000, 0x3000, 0x4000  # the structures in the BAR
NOTIFY_STEP = 4  # bytes between the notification addresses of two queues


@queue_addresses
class VirtioPci(Virtio, PciDevice):
    """A virtio device on PCI. A device's class names its `class_code` and, first among its bases, what it is on any transport."""

    vendor_id, revision = 0x1AF4, 1
    interrupt_pin = 1
    bars = {MSIX_BAR: Bar(MSIX_SIZE), BAR: Bar(BAR_SIZE, wide=True, prefetchable=True)}
    window = BAR_SIZE
    accesses = (1, 2, 4)

    disable_legacy = Choice("on", "there is no legacy interface", "auto")
    disable_modern = Choice("off", "there is no legacy interface")

    device_feature_select = Reg(0x00, 32)
    device_feature = Reg(0x04, 32, writable=0)
    driver_feature_select = Reg(0x08, 32)
    driver_feature = Reg(0x0C, 32)
    config_msix_vector = Reg(0x10, 16, reset=NO_VECTOR)
    num_queues = Reg(0x12, 16, writable=0)
    device_status = Reg(0x14, 8)
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

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "device_type" in dir(cls):
            cls.device_id = 0x1040 + cls.device_type

    def __init__(self, clock: Any = None, **properties: Any) -> None:
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

    def live(self) -> bool:
        """A function masters the bus when it is allowed to."""
        return super().live() and bool(self.command & BUS_MASTER)

    def signal(self, vector: int, cause: int) -> None:
        """A message where the driver switched to them, else INTx."""
        if self._msix is not None and self._msix.enabled:
            self._msix.send(vector)
        else:
            self.isr = self.isr | cause
            self.interrupt(True)

    def config_vector(self) -> int:
        """As the driver set it."""
        return int(self.config_msix_vector)

    # Reset, save, load

    def restart(self) -> None:
        """A reset by the driver."""
        super().restart()
        for name in ("config_msix_vector", "queue_select", "isr"):
            setattr(self, name, self.registers[name].reset)
        self.interrupt(False)

    def reset(self) -> None:
        """As after power-on."""
        super().reset()
        if self._msix is not None:
            self._msix.reset()

    def save(self) -> dict[str, Any]:
        """With the table of messages."""
        assert self._msix is not None
        return super().save() | {"msix": self._msix.save()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take the saved state."""
        assert self._msix is not None
        self._msix.load(saved["msix"])
        super().load(saved)

    # The structures in the BAR

    def bar_target(self, index: int) -> Any:
        """The table of MSI-X, or the device."""
        return self._msix if index == MSIX_BAR else self

    def read(self, offset: int, size: int) -> int:
        """The device's configuration is its own, the rest are registers."""
        if DEVICE_AT <= offset < NOTIFY_AT:
            return self.read_config_bytes(offset - DEVICE_AT, size)
        return 0 if offset >= NOTIFY_AT else super().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Anything written at a queue's notification address is a notification."""
        if offset >= NOTIFY_AT:
            self.notify((offset - NOTIFY_AT) // NOTIFY_STEP)
        elif offset >= DEVICE_AT:
            self.write_config_bytes(offset - DEVICE_AT, size, value)
        else:
            super().write(offset, size, value)

    @device_feature.read
    def read_device_feature(self) -> int:
        """32 of the bits that are offered."""
        return self.feature_word(self.all_features(), self.device_feature_select)

    @driver_feature.read
    def read_driver_feature(self) -> int:
        """32 of the bits that were accepted."""
        return self.feature_word(self.features, self.driver_feature_select)

    @driver_feature.write
    def write_driver_feature(self, value: int) -> None:
        """Until FEATURES_OK."""
        self.accept_features(int(self.driver_feature_select), int(value))

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

    @device_status.read
    def read_status(self) -> int:
        """Of the device, as the driver made it."""
        return self.status

    @device_status.write
    def write_status(self, value: int) -> None:
        """0 resets."""
        self.set_status(int(value))

    @isr.read
    def read_isr(self) -> int:
        """Reading takes the interrupt away."""
        cause = int(self.isr)
        self.isr = 0
        self.interrupt(False)
        return cause

    # The selected queue

    @queue_size.read
    def read_queue_size(self) -> int:
        """0 for a queue that does not exist."""
        return self.queue(self.queue_select).size

    @queue_size.write
    def write_queue_size(self, value: int) -> None:
        """A power of two."""
        self.set_queue_size(int(self.queue_select), int(value))

    @queue_msix_vector.read
    def read_queue_vector(self) -> int:
        """Its message."""
        return self.queue(self.queue_select).vector

    @queue_msix_vector.write
    def write_queue_vector(self, value: int) -> None:
        """One that does not exist is refused."""
        self.queue(self.queue_select).vector = self._vector(value)

    @queue_enable.read
    def read_queue_enable(self) -> int:
        """Whether it runs."""
        return self.queue(self.queue_select).enabled

    @queue_enable.write
    def write_queue_enable(self, value: int) -> None:
        """Only on; a reset turns it off."""
        if value == 1:
            self.queue(self.queue_select).enabled = True

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
