"""The local APIC in xAPIC mode (Intel SDM volume 3A, chapter 11)."""

from collections.abc import Callable
from typing import Any, Protocol

from exuvia.devices.device import Alarm, Device, Irq, Property, Reg, Sink, State, Word
from exuvia.devices.irq.apicbus import EXTINT, FIXED, INIT, LOWEST, NMI, START, ApicBus, Message
from exuvia.devices.irq.lapic_timer import SHORTEST, LentTimer
from exuvia.devices.irq.tick import Tick
from exuvia.support import log
from exuvia.support.bits import bit

_MASKED = 1 << 16
_GLOBALLY, _BY_SOFTWARE = 1 << 11, 1 << 8  # enabled: in IA32_APIC_BASE, in SVR
_SEND_ILLEGAL, _RECEIVE_ILLEGAL = 1 << 5, 1 << 6  # ESR


class ProcessorPort(Protocol):
    """What a local APIC drives: its processor."""

    def interrupt(self, level: bool) -> None: ...
    def nmi(self) -> None: ...
    def init(self) -> None: ...
    def start(self, vector: int) -> None: ...


def _lvt(offset: int, writable: int) -> Reg:
    return Reg(
        offset, 32, reset=_MASKED, writable=writable, vector=bit[7:0], mode=bit[10:8], level=bit[15], masked=bit[16], periodic=bit[17]
    )


class LocalApic(Device):
    """One processor's local APIC. The timer counts virtual nanoseconds, divided.

    `acknowledge` is what the processor calls for a vector, `pic_acknowledge` gives an ExtINT's vector; inputs 0 and 1 are the LINT pins.
    `processor` and `pic_acknowledge` are set by the machine.
    """

    name = "apic"
    window = 0x1000
    accesses = (4,)
    index = Property(int, 0, "the processor's number and initial APIC ID; 0 is the bootstrap processor")
    intr = Irq()  # to the processor; connected when `processor` is set

    id = Reg(0x20, 32, writable=0xFF000000)
    version = Reg(0x30, 32, reset=0x00050014, writable=0)
    tpr = Reg(0x80, 32, writable=0xFF)
    apr = Reg(0x90, 32, writable=0)
    ppr = Reg(0xA0, 32, writable=0)
    eoi = Reg(0xB0, 32)
    rrd = Reg(0xC0, 32, writable=0)
    ldr = Reg(0xD0, 32, writable=0xFF000000)
    dfr = Reg(0xE0, 32, reset=0xFFFFFFFF, writable=0xF0000000)
    svr = Reg(0xF0, 32, reset=0xFF, vector=bit[7:0], enable=bit[8])
    esr = Reg(0x280, 32)
    icr = Reg(0x300, 32, vector=bit[7:0], mode=bit[10:8], logical=bit[11], asserted=bit[14], level=bit[15], shorthand=bit[19:18])
    icr_high = Reg(0x310, 32, writable=0xFF000000)
    lvt_timer = _lvt(0x320, 0x300FF)
    lvt_thermal = _lvt(0x330, 0x107FF)
    lvt_counters = _lvt(0x340, 0x107FF)
    lvt_lint0 = _lvt(0x350, 0x1A7FF)
    lvt_lint1 = _lvt(0x360, 0x1A7FF)
    lvt_error = _lvt(0x370, 0x100FF)
    initial_count = Reg(0x380, 32)
    current_count = Reg(0x390, 32)
    divide = Reg(0x3E0, 32, writable=0xB)
    base_msr = Reg(None, 64, reset=0xFEE00000, enable=bit[11], x2apic=bit[10], bootstrap=bit[8])

    requests = State(0)  # IRR, ISR, TMR: bit n is vector n
    service = State(0)
    trigger = State(0)
    errors = State(0)
    lines = State(0)
    extint = State(False)  # an ExtINT message not yet acknowledged
    loaded_at = State(0)  # virtual ns at which the timer had its initial count
    expired = State(True)  # the one-shot count is used up

    def __init__(self, bus: ApicBus | None = None, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.bus = bus or ApicBus()
        self.pic_acknowledge: Callable[[], int] = lambda: int(self.svr & 0xFF)
        self._processor: ProcessorPort | None = None
        self._lent: LentTimer | None = None
        self.bus.processors.append(self)
        self.intr.connect(self._drive)
        self.reset()

    @property
    def processor(self) -> ProcessorPort | None:
        """The processor that this APIC drives."""
        return self._processor

    @processor.setter
    def processor(self, port: ProcessorPort) -> None:
        self._processor = port
        if self.intr.level:
            port.interrupt(True)

    def lend_timer(self, tick: Tick | None) -> None:
        """The processor has `tick` for the timer and its interrupt, or has none."""
        self._reclaim()
        self._lent = None if tick is None else LentTimer(self, tick)
        if tick is not None:
            tick.ring = self.tick.rings
        self.tick.run_on(tick)

    def _reclaim(self) -> bool:
        """What native code has of the timer's interrupt is here again; False if the processor has yet to leave native code."""
        return self._lent is None or self._lent.take_back()

    def _drive(self, level: bool) -> None:
        if self._processor is not None:
            self._processor.interrupt(level)

    def reset(self) -> None:
        """As after power-on: enabled in the base MSR; the bootstrap processor's LINT0 is an unmasked ExtINT, as firmware leaves it."""
        self._reclaim()
        super().reset()
        self.base_msr = 0xFEE00000 | 1 << 11 | (self.index == 0) << 8
        self.id = self.index << 24
        if self.index == 0:
            self.lvt_lint0 = EXTINT << 8

    # The processor's side.

    @property
    def enabled(self) -> bool:
        """Globally, in the base MSR."""
        return bool(self._registers["base_msr"] & _GLOBALLY)

    @property
    def accepts(self) -> bool:
        """Whether fixed interrupts are taken: enabled globally and by software."""
        held = self._registers
        return bool(held["base_msr"] & _GLOBALLY and held["svr"] & _BY_SOFTWARE)

    @property
    def base(self) -> int:
        """The MSR IA32_APIC_BASE; setting it raises ValueError where the processor raises #GP."""
        return int(self.base_msr)

    @base.setter
    def base(self, value: int) -> None:
        word = type(self).base_msr.word(value)
        if value & 0xFF or value & 1 << 9 or value >> 52 or word.x2apic:
            raise ValueError("reserved bits in IA32_APIC_BASE")
        self._reclaim()
        if value >> 12 != 0xFEE00:
            log.unimp.once("base", f"apic: the local APIC cannot be moved to {value & ~0xFFF:#x}, it stays at 0xfee00000")
        self.base_msr = value & ~(1 << 8) | int(self.base_msr) & 1 << 8
        if not word.enable:
            kept = int(self.base_msr), self.lines
            super().reset()
            self.base_msr, self.lines = kept
            self.id = self.index << 24
        self._update()

    @property
    def task_priority(self) -> int:
        """CR8: bits 7 to 4 of the task priority register."""
        return int(self.tpr) >> 4

    @task_priority.setter
    def task_priority(self, value: int) -> None:
        self._reclaim()
        self.tpr = value << 4 & 0xF0
        self._update()

    def acknowledge(self) -> int:
        """The vector to deliver now: the highest pending one, else the 8259's, else the spurious vector."""
        if self.bus.remote is not None:
            return self.pic_acknowledge()
        self._reclaim()
        if self._deliverable():
            vector = self.requests.bit_length() - 1
            self.requests &= ~(1 << vector)
            self.service |= 1 << vector
        elif self.external():
            self.extint = False
            vector = self.pic_acknowledge()
        else:
            vector = int(self.svr) & 0xFF
        self._update()
        return vector

    def processor_priority(self) -> int:
        """PPR (SDM 3A, 11.8.3.1)."""
        tpr, service = self._registers["tpr"], self.service
        serving = service.bit_length() - 1 & 0xF0 if service else 0
        return int(tpr) if tpr & 0xF0 >= serving else serving

    def _deliverable(self) -> bool:
        requests = self.requests
        return bool(requests) and self.accepts and requests.bit_length() - 1 & 0xF0 > self.processor_priority() & 0xF0

    def external(self) -> bool:
        """Whether an ExtINT waits."""
        if not (self.lines & 1 or self.extint):
            return False
        if not self.enabled:
            return bool(self.lines & 1)
        lint = self.lvt_lint0
        return self.extint or bool(self.lines & 1 and lint.mode == EXTINT and not lint.masked)

    def _update(self) -> None:
        remote = self.bus.remote is not None  # whoever does the work knows what is let through
        if self._lent is not None and (not self._lent.take_back() or not remote and self._lent.lend()):
            self.intr.set(False)
            return
        self.intr.set(bool(self.lines & 1) if remote else self._deliverable() or self.external())

    def save(self) -> dict[str, Any]:
        """With what native code did."""
        self._reclaim()
        saved = super().save()
        self._update()
        return saved

    def load(self, saved: dict[str, Any]) -> None:
        """Take the state that `save` gave, and drive the processor accordingly."""
        self._reclaim()
        super().load(saved)
        self._update()

    def refresh(self) -> None:
        """Drive the processor as the state has it, after another hand changed that."""
        self._update()

    # The bus's side.

    def matches(self, destination: int, logical: bool) -> bool:
        """Whether the 8-bit `destination` of a message names this APIC (SDM 3A, 11.6.2)."""
        if not self.enabled:
            return False
        if destination == 0xFF:
            return True
        if not logical:
            return destination == int(self.id) >> 24
        own = int(self.ldr) >> 24
        if int(self.dfr) >> 28 == 0xF:
            return bool(own & destination)
        return (destination >> 4 in (own >> 4, 0xF)) and bool(own & destination & 0xF)

    def receive(self, message: Message) -> bool:
        """Take a message that is meant for this APIC; False when it is refused."""
        if message.mode != NMI and self._lent is not None and self._lent.receive(message):
            return True
        if message.mode in (FIXED, LOWEST):
            return self._accept(message.vector, message.level)
        port = self._processor
        if message.mode == EXTINT:
            self.extint = True
            self._update()
        elif port is None:
            return False
        elif message.mode == NMI:
            port.nmi()
        elif message.mode == INIT:
            kept = int(self.base_msr), int(self.id), self.lines
            super().reset()
            self.base_msr, self.id, self.lines = kept
            port.init()
        elif message.mode == START:
            port.start(message.vector)
        else:
            log.unimp.once(message.mode, f"apic: delivery mode {message.mode} (SMI)")
            return False
        return True

    def _accept(self, vector: int, level: bool) -> bool:
        if vector < 16:
            self._error(_RECEIVE_ILLEGAL)
            return False
        if not self.accepts:
            return False
        own = 1 << vector
        self.requests |= own
        self.trigger = self.trigger | own if level else self.trigger & ~own
        self._update()
        return True

    def _error(self, bits: int) -> None:
        self.errors |= bits
        if not self.lvt_error.masked and self.lvt_error.vector >= 16:
            self._accept(self.lvt_error.vector, False)

    def input(self, number: int) -> Sink:
        """The sink of local interrupt pin 0 or 1."""
        own = 1 << number

        def follow(level: bool) -> None:
            self._reclaim()
            rising = level and not self.lines & own
            self.lines = self.lines | own if level else self.lines & ~own
            if rising:
                self._local(number)
            self._update()

        return follow

    def _local(self, number: int) -> None:
        lint = self.lvt_lint1 if number else self.lvt_lint0
        if not self.enabled:
            if number and self._processor is not None:
                self._processor.nmi()
        elif not lint.masked and lint.mode != EXTINT:
            self.receive(Message(0, False, lint.mode, lint.vector, bool(lint.level and lint.mode == FIXED)))

    # The registers.

    def read(self, offset: int, size: int) -> int:
        """As a Device; the 256-bit ISR, TMR and IRR stand at 0x100 to 0x27F, 32 bits every 16 bytes."""
        if self._lent is not None and self._lent.tick.lent:
            self._reclaim()
            self._update()
        if 0x100 <= offset < 0x280 and size == 4 and not offset & 0xF:
            bits = (self.service, self.trigger, self.requests)[(offset >> 7) - 2]
            return bits >> (offset >> 4 & 7) * 32 & 0xFFFFFFFF
        return super().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Device; ISR, TMR and IRR cannot be written."""
        self._reclaim()
        if not 0x100 <= offset < 0x280:
            super().write(offset, size, value)
            self._update()

    @tpr.write
    def write_tpr(self, value: int) -> None:
        self.tpr = value & 0xFF
        self._update()

    @apr.read
    @ppr.read
    def read_priority(self) -> int:
        return self.processor_priority()

    @eoi.read
    def read_eoi(self) -> int:
        return 0

    @eoi.write
    def write_eoi(self, value: int) -> None:
        if not self.service:
            return
        own = 1 << self.service.bit_length() - 1
        self.service &= ~own
        if self.trigger & own:
            self.bus.end_of_interrupt(own.bit_length() - 1)
            for number, lint in enumerate((self.lvt_lint0, self.lvt_lint1)):
                if self.lines >> number & 1 and lint.level and lint.mode == FIXED and own == 1 << lint.vector:
                    self._local(number)
        self._update()

    @svr.write
    def write_svr(self, value: Word) -> None:
        self.svr = value & 0x3FF
        if not value.enable:
            for register in self._lvts:
                register.__set__(self, int(register.__get__(self, LocalApic)) | _MASKED)
            self._schedule()
        self._update()

    @esr.write
    def write_esr(self, value: int) -> None:
        self.esr, self.errors = self.errors, 0

    @icr.write
    def write_icr(self, value: Word) -> None:
        self.icr = value & 0xCCFFF
        mode, vector = value.mode, value.vector
        if mode == INIT and value.level and not value.asserted:
            return  # INIT level de-assert synchronizes arbitration IDs on processors before the Pentium 4
        if mode in (FIXED, LOWEST) and vector < 16:
            self._error(_SEND_ILLEGAL)
            return
        message = Message(int(self.icr_high) >> 24, bool(value.logical), mode, vector)
        if value.shorthand == 0:
            self.bus.send(message)
        elif value.shorthand == 1:
            self.bus.deliver([self], message)
        else:
            everyone = [apic for apic in self.bus.processors if apic.enabled]
            self.bus.deliver(everyone if value.shorthand == 2 else [apic for apic in everyone if apic is not self], message)

    def _write_lvt(self, register: Reg, value: int) -> None:
        register.__set__(self, value & register.writable | (0 if self.svr.enable else _MASKED))

    @lvt_thermal.write
    def write_lvt_thermal(self, value: int) -> None:
        self._write_lvt(LocalApic.lvt_thermal, value)

    @lvt_counters.write
    def write_lvt_counters(self, value: int) -> None:
        self._write_lvt(LocalApic.lvt_counters, value)

    @lvt_lint0.write
    def write_lvt_lint0(self, value: int) -> None:
        self._write_lvt(LocalApic.lvt_lint0, value)
        self._update()

    @lvt_lint1.write
    def write_lvt_lint1(self, value: int) -> None:
        self._write_lvt(LocalApic.lvt_lint1, value)

    @lvt_error.write
    def write_lvt_error(self, value: int) -> None:
        self._write_lvt(LocalApic.lvt_error, value)

    # The timer (SDM 3A, 11.5.4).

    def on_tick(self) -> None:
        self._reclaim()
        if not self.lvt_timer.periodic:
            self.expired = True
        if not self.lvt_timer.masked:
            self._accept(self.lvt_timer.vector, False)
        self._schedule()

    tick = Alarm(on_tick)

    def divisor(self) -> int:
        """ns for each count."""
        return 2 << ((int(self.divide) >> 1 & 4) | int(self.divide) & 3) if int(self.divide) != 0xB else 1

    def _schedule(self) -> None:
        count = int(self.initial_count)
        if not count or self.lvt_timer.masked:
            self.tick.cancel()
            return
        period = count * self.divisor()
        if self.lvt_timer.periodic:
            now = self.clock.now()
            following = self.loaded_at + ((now - self.loaded_at) // period + 1) * period
            self.tick.set(following if period >= SHORTEST else max(following, now + SHORTEST))
        elif self.expired:
            self.tick.cancel()
        else:
            self.tick.set(self.loaded_at + period)

    @lvt_timer.write
    def write_lvt_timer(self, value: int) -> None:
        if self.lvt_timer.masked and not self.expired and not self._remaining():
            self.expired = True  # it ran out while masked
        self._write_lvt(LocalApic.lvt_timer, value)
        self._schedule()

    @initial_count.write
    def write_initial_count(self, value: int) -> None:
        self.initial_count, self.loaded_at, self.expired = value, self.clock.now(), not value
        self._schedule()

    def _remaining(self) -> int:
        count = int(self.initial_count)
        if not count:
            return 0
        gone = (self.clock.now() - self.loaded_at) // self.divisor()
        return count - gone % count if self.lvt_timer.periodic else max(count - gone, 0)

    @current_count.read
    def read_current_count(self) -> int:
        return self._remaining()

    @current_count.write
    def write_current_count(self, value: int) -> None:
        """Read-only."""

    @divide.write
    def write_divide(self, value: int) -> None:
        gone = int(self.initial_count) - self._remaining()
        self.divide = value & 0xB
        if self.initial_count:
            self.loaded_at = self.clock.now() - gone * self.divisor()
            self._schedule()

    _lvts = (lvt_timer, lvt_thermal, lvt_counters, lvt_lint0, lvt_lint1, lvt_error)
