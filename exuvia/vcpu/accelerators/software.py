"""`-accel software`: processors that Exuvia makes, compiled by LLVM."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from ctypes import Array, addressof, c_uint64
from functools import partial
from itertools import chain
from typing import Any

from exuvia.codegen.engine import Engine
from exuvia.codegen.service import PRICE, Service
from exuvia.codegen.stencil import Forms
from exuvia.dsl.architecture import Model
from exuvia.isa import UnknownName, architecture
from exuvia.support.errors import UserError
from exuvia.vcpu.processor import combined
from exuvia.vcpu.progress import compiling
from exuvia.vcpu.sidebyside import Second, SideBySide
from exuvia.vcpu.software import NEVER, SoftwareVcpu

Known = tuple[int, Any, Any]  # address, register, device


class Maker:
    """What the software processors of a machine share: an engine, with `regions=check` a second one."""

    def __init__(self, machine: Any) -> None:
        self.machine, config, ram = machine, machine.config, machine.ram
        if config.cpu == "host":
            raise UserError("-cpu host: it is the host's own processor, which only -accel kvm gives")
        of = architecture(machine.architecture)
        try:
            model = of.model(config.cpu, [("+" if on else "-") + name for name, on in config.cpu_features])
            self.model: Model = model.ordered(big=True) if config.order == "big" else model
        except UnknownName as error:
            raise UserError(f"-cpu {config.cpu}: {error}") from None
        self.regions = dict(config.accel_options).get("regions", "on")
        self.several = config.smp > 1
        if self.regions == "check" and self.several:
            raise UserError(f"-accel software,regions=check: it compares one processor at a time; give -smp 1, not {config.smp}")
        self.vcpus: list[SoftwareVcpu] = []
        self.engine = engine = Engine(of, self.model.features, ram.address, ram.size, config.smp, compiling())
        engine.standstill = machine.standstill
        stores = engine.stores
        problem = _problem(stores)
        if problem is not None:
            print(f"exuvia: generated code is not kept, each start compiles it again: {problem}", file=sys.stderr)
        else:
            machine.at_end.append(lambda: _tell_what_came(stores))
        self.second = Second(engine, ram, config.smp) if self.regions == "check" else None
        if self.regions != "off":
            improved = self.second.engine if self.second else engine
            hot, copies = improved.hot, improved.copies

            def done(wanted: Any, *made: Any) -> None:
                machine.post(lambda: (copies if isinstance(wanted, Forms) else hot).finished(wanted, *made))

            service = Service(
                engine.architecture.module,
                self.model.features,
                done,
                hot.heat,
                price=PRICE if hot.known else 0,  # where the store has some, what is left may never be worth a worker
            )
            hot.ask, hot.busy, hot.remind, copies.ask = service.submit, service.busy, service.hire, service.submit
            copies.begin()
            machine.at_end.append(service.close)
        machine.memory.on_change.append((lambda: machine.alone(self.changed)) if self.several else self.changed)
        machine.ports.on_change.append((lambda: machine.alone(self.tell)) if self.several else self.tell)
        ram.on_write.append(self.written)
        self.changed()

    def vcpu(self, index: int, controller: Any) -> SoftwareVcpu:
        """One of them; one that was left for another accelerator is taken up again."""
        if index < len(self.vcpus):
            return self.vcpus[index]
        machine, engine = self.machine, self.engine
        whole = engine, self.model.numbered(index, machine.config.smp), index, machine.memory, machine.ports, controller, machine
        processor = engine.architecture.processor
        if self.second:
            made: SoftwareVcpu = combined(SideBySide, processor)(self.second, *whole)
        else:
            made = combined(SoftwareVcpu, processor)(*whole)
        if self.several:
            made.__dict__["native_run"], made.__dict__["alone"] = machine.apart(index, engine.run), machine.alone
            if made.tick is not None:
                made.tick.elsewhere = lambda: machine.outside(index)
        if self.regions == "off":
            made.first_look, made.hot_after = 0, NEVER
        made.__dict__["count"] = machine.clock.count
        made.__dict__["peers"] = self.vcpus
        self.vcpus.append(made)
        self.tell()
        return made

    def changed(self) -> None:
        """The map of memory."""
        ram = self.machine.ram
        slots = [(s.start, s.size, ram.address + s.offset, s.writable) for s in self.machine.memory.slots]
        self.engine.set_slots(slots)
        if self.second:
            self.second.set_slots(slots)
        for vcpu in self.vcpus:
            vcpu.flush_tlb(True)
        self.tell()

    def tell(self) -> None:
        """The registers that processors read and write without asking the devices; two that run side by side ask."""
        if self.second:
            return
        known = [list(space.native_registers()) for space in (self.machine.memory, self.machine.ports)]
        self.tables = [table(registers) for registers in known]
        memory, ports = map(addressof, self.tables)
        taking = takers(chain(*known))
        for vcpu in self.vcpus:
            vcpu.know(memory, ports, taking)

    def written(self, offset: int, length: int) -> None:
        """Memory, by a device or a loader: it may have been code, if there is any yet."""
        if self.engine.empty and self.second is None:
            return
        start = self.machine.ram.address + offset
        for vcpu in self.vcpus[:1]:
            address, end = start, start + length
            while address < end:
                step = min(end, (address | 0xFFF) + 1) - address
                self.engine.written(vcpu.native.address, address, step)
                address += step

    def skip(self, ticks: int) -> None:
        """Virtual time goes on; cycle counters do not count what the host's did just now."""
        for vcpu in self.vcpus:
            vcpu.set_time()
            vcpu.skip(ticks)


def table(registers: Iterable[Known]) -> Array[c_uint64]:
    """What native code knows of registers that it reads and writes without asking (codegen/runtime/devices.py)."""
    entries = [(address, register.width // 8, *register.places(device)) for address, register, device in registers]
    return (c_uint64 * (4 * len(entries) + 2))(*chain(*entries))


def takers(registers: Iterable[Known]) -> list[Callable[[], None]]:
    """What hands on what was written to registers, once for each, wherever it is seen."""
    found = {ring: partial(register.take, device) for _, register, device in registers if (ring := register.places(device)[1])}
    return list(found.values())


def create(machine: Any, index: int, controller: Any) -> SoftwareVcpu:
    """Processor `index` of a machine. UserError for an unknown model or feature."""
    maker: Maker | None = machine.accelerated.get("software")
    if maker is None:
        maker = machine.accelerated["software"] = Maker(machine)
    return maker.vcpu(index, controller)


def take_over(machine: Any) -> None:
    """The processors' TSCs stand with virtual time."""
    maker: Maker = machine.accelerated["software"]
    machine.clock.beside, machine.clock.skip = maker.engine.counter, maker.skip


def let_go(machine: Any) -> None:
    """Everything is in the devices and the processors already."""


def _problem(stores: Iterable[Any]) -> str | None:
    return next((store.problem for store in stores if store.problem is not None), None)


def _tell_what_came(stores: Iterable[Any]) -> None:
    """Say why code was not kept from some time on: a full disk."""
    problem = _problem(stores)
    if problem is not None:
        print(f"exuvia: not all generated code was kept: {problem}", file=sys.stderr)
