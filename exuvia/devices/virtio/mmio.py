"""The transport over memory-mapped registers (VIRTIO 1.2, section 4.2), version 2; there is no legacy interface."""

from __future__ import annotations

from exuvia.devices.device import Device, Irq, Reg
from exuvia.devices.virtio.virtio import Virtio, queue_addresses
from exuvia.devices.virtio.virtqueue import LARGEST

MAGIC, VERSION, VENDOR = 0x74726976, 2, 0x1AF4
CONFIG_AT, WINDOW = 0x100, 0x200


@queue_addresses
class VirtioMmio(Virtio):
    """A virtio device in a window of a board's memory."""

    plugs_into = "virtio-mmio"
    window = WINDOW
    accesses = (1, 2, 4)
    irq = Irq()

    magic_value = Reg(0x000, 32, reset=MAGIC, writable=0)
    version = Reg(0x004, 32, reset=VERSION, writable=0)
    device_id = Reg(0x008, 32, writable=0)
    vendor_id = Reg(0x00C, 32, reset=VENDOR, writable=0)
    device_features = Reg(0x010, 32, writable=0)
    device_features_sel = Reg(0x014, 32)
    driver_features = Reg(0x020, 32)
    driver_features_sel = Reg(0x024, 32)
    queue_select = Reg(0x030, 32)
    queue_size_max = Reg(0x034, 32, writable=0)
    queue_size = Reg(0x038, 32)
    queue_ready = Reg(0x044, 32)
    queue_notify = Reg(0x050, 32)
    interrupt_status = Reg(0x060, 32, writable=0)
    interrupt_ack = Reg(0x064, 32)
    device_status = Reg(0x070, 32)
    queue_desc = Reg(0x080, 32)
    queue_desc_high = Reg(0x084, 32)
    queue_driver = Reg(0x090, 32)
    queue_driver_high = Reg(0x094, 32)
    queue_device = Reg(0x0A0, 32)
    queue_device_high = Reg(0x0A4, 32)
    shm_sel = Reg(0x0AC, 32)
    shm_len = Reg(0x0B0, 32, reset=0xFFFFFFFF, writable=0)  # there is no shared memory
    shm_len_high = Reg(0x0B4, 32, reset=0xFFFFFFFF, writable=0)
    shm_base = Reg(0x0B8, 32, reset=0xFFFFFFFF, writable=0)
    shm_base_high = Reg(0x0BC, 32, reset=0xFFFFFFFF, writable=0)
    config_generation = Reg(0x0FC, 32, writable=0)

    def signal(self, vector: int, cause: int) -> None:
        """The causes add up until the driver acknowledges them."""
        self.interrupt_status = self.interrupt_status | cause
        self.irq.set(True)

    def restart(self) -> None:
        """A reset by the driver."""
        super().restart()
        self.queue_select = self.interrupt_status = 0
        self.irq.set(False)

    def read(self, offset: int, size: int) -> int:
        """The device's configuration is its own, the rest are registers, to be read as words."""
        return self.read_config_bytes(offset - CONFIG_AT, size) if offset >= CONFIG_AT else super().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """See read."""
        if offset >= CONFIG_AT:
            self.write_config_bytes(offset - CONFIG_AT, size, value)
        else:
            super().write(offset, size, value)

    @device_id.read
    def read_device_id(self) -> int:
        """The type of the device."""
        return self.device_type

    @device_features.read
    def read_device_features(self) -> int:
        """32 of the bits that are offered."""
        return self.feature_word(self.all_features(), self.device_features_sel)

    @driver_features.write
    def write_driver_features(self, value: int) -> None:
        """32 of those that are accepted."""
        self.accept_features(int(self.driver_features_sel), int(value))

    @queue_size_max.read
    def read_queue_size_max(self) -> int:
        """0 for a queue that does not exist."""
        return LARGEST if self.queue_select < len(self.queues) else 0

    @queue_size.write
    def write_queue_size(self, value: int) -> None:
        """A power of two."""
        self.set_queue_size(int(self.queue_select), int(value))

    @queue_ready.read
    def read_queue_ready(self) -> int:
        """Whether it runs."""
        return self.queue(int(self.queue_select)).enabled

    @queue_ready.write
    def write_queue_ready(self, value: int) -> None:
        """On, and off again: what is under way is finished before."""
        queue = self.queue(int(self.queue_select))
        if not value & 1 and queue.enabled:
            self.settle()
        queue.enabled = bool(value & 1) and queue.size > 0

    @queue_notify.write
    def write_queue_notify(self, value: int) -> None:
        """There are requests in a queue."""
        self.notify(int(value))

    @interrupt_ack.write
    def acknowledge(self, value: int) -> None:
        """The driver has seen these causes."""
        self.interrupt_status = self.interrupt_status & ~value
        self.irq.set(bool(self.interrupt_status))

    @device_status.read
    def read_status(self) -> int:
        """Of the device, as the driver made it."""
        return self.status

    @device_status.write
    def write_status(self, value: int) -> None:
        """0 resets."""
        self.set_status(int(value) & 0xFF)


class VacantMmio(Device):
    """A place for a virtio device where there is none: device type 0, which drivers pass by."""

    name = "virtio-mmio"
    window = WINDOW
    magic_value = Reg(0x000, 32, reset=MAGIC, writable=0)
    version = Reg(0x004, 32, reset=VERSION, writable=0)
    device_id = Reg(0x008, 32, writable=0)
    vendor_id = Reg(0x00C, 32, reset=VENDOR, writable=0)
