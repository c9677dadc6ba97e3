"""What every virtio device is, whatever transport carries it: features, status, queues, requests (VIRTIO 1.2, chapters 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Protocol

from exuvia.devices.device import Device, Reg, State
from exuvia.devices.virtio.virtqueue import LARGEST, NO_VECTOR, Broken, Chain, Virtqueue
from exuvia.memory.dma import Dma
from exuvia.support import log

DRIVER_OK, FEATURES_OK, NEEDS_RESET = 4, 8, 64  # device status
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
QUEUE_INTERRUPT, CONFIG_INTERRUPT = 1, 2
WORD = 0xFFFFFFFF


class Pending(Protocol):
    """What the host's side does, as `concurrent.futures.Future`; callbacks come from any thread."""

    def exception(self, timeout: float | None = None, /) -> BaseException | None:
        """Wait; what went wrong."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        """Have `function` called with this when it is over."""


class Virtio(Device):
    """A device of type `device_type` (chapter 5) says how many queues it has and what it offers, and carries out requests.

    `serve` carries a request out and calls `finish`, or begins it and hands what is Pending to `later`. A transport gives the driver its
    registers, says when the device is `live`, and takes a `signal`.
    """

    device_type: ClassVar[int]
    queue_count: ClassVar[int] = 1

    features = State(0)  # what the driver accepted
    status = State(0)

    dma: Dma | None = None

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self.queues = [Virtqueue() for _ in range(self.queue_count)]
        self._running: dict[Pending, tuple[Virtqueue, Chain]] = {}
        super().__init__(clock, **properties)

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

    # What a transport says and does

    def live(self) -> bool:
        """Whether the device may reach memory."""
        return bool(self.status & DRIVER_OK and not self.status & NEEDS_RESET)

    def signal(self, vector: int, cause: int) -> None:
        """Interrupt the driver: QUEUE_INTERRUPT or CONFIG_INTERRUPT, by message `vector` where there are messages."""
        raise NotImplementedError

    # Queues

    def notify(self, number: int) -> None:
        """The driver says that there are requests in queue `number`."""
        if number >= len(self.queues) or not self.live() or self.dma is None:
            return
        queue = self.queues[number]
        try:
            for _ in range(LARGEST):
                if not queue.enabled or len(self._running) >= len(self.queues) * LARGEST:
                    break
                chain = queue.pop(self.dma)
                if chain is None:
                    if self.features & EVENT_IDX:
                        queue.ask_for_notification(self.dma)
                    break
                self.serve(queue, chain)
            else:  # another processor of the guest's may add requests as fast as they are served: others have their turn
                self.post(partial(self.notify, number))
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
        if future in self._running:  # no reset meanwhile
            queue, _ = self._running[future]
            self._complete(future)
            self.notify(self.queues.index(queue))  # what waited because too much was running

    def _complete(self, future: Pending) -> None:
        queue, chain = self._running.pop(future)
        try:
            self.finish(queue, chain, self.finished(chain, future))
            self._tell(queue)
        except Broken as error:
            self._break(error)

    def _tell(self, queue: Virtqueue) -> None:
        if self.dma is not None and queue.wants_interrupt(self.dma, bool(self.features & EVENT_IDX)):
            self.signal(queue.vector, QUEUE_INTERRUPT)

    def _break(self, error: Broken) -> None:
        log.guest_errors(f"{self.name}: {error}")
        self.status |= NEEDS_RESET
        self.signal(self.config_vector(), CONFIG_INTERRUPT)

    def config_vector(self) -> int:
        """The message that tells of a change of configuration."""
        return NO_VECTOR

    def settle(self) -> None:
        """Wait for what is under way and finish it: nothing reaches memory before the machine goes on."""
        if self._running:
            for future in list(self._running):
                future.exception()
                self._complete(future)
            self._look_again()

    def _look_again(self) -> None:
        """Requests may wait that nobody will tell of."""
        for number in range(len(self.queues)):
            self.post(partial(self.notify, number))

    # Registers that every transport has

    def all_features(self) -> int:
        """What is offered."""
        return self.offered() | INDIRECT_DESC | EVENT_IDX | VERSION_1

    def feature_word(self, bits: int, select: int) -> int:
        """32 of the `bits`."""
        return bits >> 32 * select & WORD if select < 2 else 0

    def accept_features(self, select: int, value: int) -> None:
        """32 of the bits that the driver accepts, until FEATURES_OK."""
        if select < 2 and not self.status & FEATURES_OK:
            self.features = self.features & ~(WORD << 32 * select) | value << 32 * select

    def set_status(self, value: int) -> None:
        """0 resets; FEATURES_OK stays only where the driver accepted what is offered, and VERSION_1."""
        if not value:
            self.restart()
            return
        understood = self.features & VERSION_1 and not self.features & ~self.all_features()
        if not self.status & FEATURES_OK and not understood:
            value &= ~FEATURES_OK
        self.status = value & 0xFF | self.status & NEEDS_RESET

    def queue(self, number: int) -> Virtqueue:
        """Queue `number`, one of size 0 where there is none."""
        return self.queues[number] if number < len(self.queues) else Virtqueue(size=0)

    def open_queue(self, number: int) -> Virtqueue:
        """The queue for a change; one that is enabled, or does not exist, is not changed."""
        queue = self.queue(number)
        return Virtqueue() if queue.enabled else queue

    def set_queue_size(self, number: int, value: int) -> None:
        """A power of two."""
        if 0 < value <= LARGEST and not value & (value - 1):
            self.open_queue(number).size = value

    def read_config_bytes(self, at: int, size: int) -> int:
        """The driver reads its device's configuration."""
        return int.from_bytes(self.config()[at : at + size], "little")

    def write_config_bytes(self, at: int, size: int, value: int) -> None:
        """The driver writes it."""
        for offset, byte in enumerate(value.to_bytes(size, "little"), at):
            self.set_config(offset, byte)

    # Reset, save, load

    def restart(self) -> None:
        """A reset by the driver: requests under way end without an answer."""
        for future, (_, chain) in self._running.items():
            future.exception()
            if self.dma is not None:
                self.dma.written(chain.writable)
        self._running.clear()
        for queue in self.queues:
            queue.reset()
        self.features = self.status = 0

    def reset(self) -> None:
        """As after power-on; what is under way is waited for."""
        super().reset()
        self.restart()

    def save(self) -> dict[str, Any]:
        """The state, after what is under way."""
        self.settle()
        return super().save() | {"queues": [queue.save() for queue in self.queues]}

    def load(self, saved: dict[str, Any]) -> None:
        """Take the saved state."""
        for queue, state in zip(self.queues, saved["queues"], strict=True):
            queue.load(state)
        super().load(saved)
        if self.live():
            self._look_again()


def queue_addresses(transport: type[Virtio]) -> type[Virtio]:
    """Class decorator: `queue_desc`, `queue_desc_high` and their like are the halves of the addresses of the queue in `queue_select`."""
    for name, register in (("descriptors", "queue_desc"), ("driver", "queue_driver"), ("device", "queue_device")):
        _half(transport.registers[register], name, 0)
        _half(transport.registers[f"{register}_high"], name, 32)
    return transport


def _half(register: Reg, name: str, shift: int) -> None:
    @register.read
    def read(device: Any) -> int:
        return int(getattr(device.queue(device.queue_select), name)) >> shift & WORD

    @register.write
    def write(device: Any, value: int) -> None:
        queue = device.open_queue(device.queue_select)
        setattr(queue, name, getattr(queue, name) & ~(WORD << shift) | int(value) << shift)
