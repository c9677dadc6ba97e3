"""Which implementation a machine's processors get: the first of the accelerators asked for that this host can give."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from exuvia.support.errors import UserError

_engines: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_seconds: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # where regions are checked: the engines that have them
SOFTWARE = ("software", "tcg")  # the second is what QEMU's users type


def create(machine: Any, index: int, apic: Any) -> Any:
    """Processor `index` of a machine. Raises UserError for an unknown accelerator, model or feature."""
    config = machine.config
    for name in config.accel:
        if name in SOFTWARE:
            return software(machine, index, apic)
    raise UserError(f"-accel {','.join(config.accel)}: no such accelerator; there is software")


def _problem(stores: Iterable[Any]) -> str | None:
    return next((store.problem for store in stores if store.problem is not None), None)


def _tell_what_came(stores: Iterable[Any]) -> None:
    """Say why code was not kept from some time on: a full disk."""
    problem = _problem(stores)
    if problem is not None:
        print(f"exuvia: not all generated code was kept: {problem}", file=sys.stderr)


def software(machine: Any, index: int, apic: Any) -> Any:
    """A processor in software."""
    from exuvia.codegen.engine import Engine
    from exuvia.codegen.service import Service
    from exuvia.isa.x86.architecture import architecture
    from exuvia.isa.x86.cpus import UnknownName, model
    from exuvia.vcpu.progress import compiling
    from exuvia.vcpu.sidebyside import Second, SideBySide
    from exuvia.vcpu.software import NEVER, SoftwareVcpu

    config = machine.config
    try:
        kind = model(config.cpu, [("+" if on else "-") + name for name, on in config.cpu_features])
    except UnknownName as error:
        raise UserError(f"-cpu {config.cpu}: {error}") from None
    regions = dict(config.accel_options).get("regions", "on")
    several = config.smp > 1
    if regions == "check" and several:
        raise UserError(f"-accel software,regions=check: it compares one processor at a time; give -smp 1, not {config.smp}")
    engine = _engines.get(machine)
    if engine is None:
        ram = machine.ram
        engine = Engine(architecture(), kind.features, ram.address, ram.size, config.smp, compiling())
        _engines[machine] = engine
        engine.standstill = machine.standstill
        stores = (engine.store, engine.region_store)
        problem = _problem(stores)
        if problem is not None:
            print(f"exuvia: generated code is not kept, each start compiles it again: {problem}", file=sys.stderr)
        else:
            machine.at_end.append(lambda: _tell_what_came(stores))

        def changed() -> None:
            slots = [(s.start, s.size, ram.address + s.offset, s.writable) for s in machine.memory.slots]
            engine.set_slots(slots)
            if machine in _seconds:
                _seconds[machine].set_slots(slots)
            for vcpu in machine.vcpus:
                vcpu.flush_tlb(True)

        def written(offset: int, length: int) -> None:
            for vcpu in machine.vcpus[:1]:
                address, end = ram.address + offset, ram.address + offset + length
                while address < end:
                    step = min(end, (address | 0xFFF) + 1) - address
                    engine.written(vcpu.native.address, address, step)
                    address += step

        if regions == "check":
            _seconds[machine] = Second(engine, ram, config.smp)
        if regions != "off":
            hot = (_seconds[machine].engine if regions == "check" else engine).hot
            service = Service(engine.architecture.module, kind.features, lambda *made: machine.post(lambda: hot.finished(*made)), hot.heat)
            hot.ask, hot.busy = service.submit, service.busy
            machine.at_end.append(service.close)

        def skip(ticks: int) -> None:
            for vcpu in machine.vcpus:
                vcpu.skip(ticks)

        machine.clock.beside, machine.clock.skip = engine.counter, skip
        machine.memory.on_change.append((lambda: machine.alone(changed)) if several else changed)
        ram.on_write.append(written)
        changed()
    whole = engine, kind.numbered(index, config.smp), index, machine.memory, machine.ports, apic, machine
    vcpu = SideBySide(_seconds[machine], *whole) if regions == "check" else SoftwareVcpu(*whole)
    if several:
        vcpu.__dict__["native_run"], vcpu.__dict__["alone"] = machine.apart(index, engine.run), machine.alone
    if regions == "off":
        vcpu.first_look, vcpu.hot_after = 0, NEVER
    vcpu.__dict__["count"] = machine.clock.count
    return vcpu
