"""Builds what a configuration describes and runs it until it ends."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from exuvia.backends.chardev.chardev import Chardev
from exuvia.cli.drives import Drives
from exuvia.cli.lines import Lines
from exuvia.cli.signals import Signals
from exuvia.isa import translate
from exuvia.machines.config import MachineConfig, SemihostingConfig
from exuvia.machines.machine import Machine, machines
from exuvia.monitor.monitor import Monitor
from exuvia.support.errors import UserError

if TYPE_CHECKING:
    from exuvia.backends.semihosting import Semihosting


def launch(
    program: str, config: MachineConfig, own: Sequence[Chardev] = (), ready: Callable[[Machine], object] = lambda machine: None
) -> int:
    """Build the machine and run it; its exit status. `own` are backends of the command itself; `ready` is called before the start."""
    made: list[Machine] = []
    lines = Lines(config.chardevs, lambda: made[0].exit(0))
    for backend in own:
        lines.add(backend)
    with Drives(config.drives) as drives:
        return _run(program, config, lines, drives, made, ready)


def _run(program: str, config: MachineConfig, lines: Lines, drives: Drives, made: list[Machine], ready: Callable[[Machine], object]) -> int:
    machine = machines[config.machine](config, lines, drives)
    made.append(machine)
    if config.semihosting is not None:
        machine.semihosting = _semihosting(config.semihosting, machine, lines)
        machine.at_end.append(machine.semihosting.close_all)
    for id in config.monitors:
        if id not in lines:
            raise UserError(f"-monitor: there is no chardev '{id}'")
        line = lines[id]
        monitor = Monitor(machine, line, translate(machine.architecture))
        if lines.shared(id) is None:
            machine.post(monitor.start)
        else:
            monitor.attach()
            lines.on_focus(id, line, monitor.greet)
    with Signals(program, machine):
        try:
            lines.open(machine.post)
            ready(machine)
            return machine.run()
        finally:
            lines.close()


def _semihosting(config: SemihostingConfig, machine: Machine, lines: Lines) -> "Semihosting":
    from exuvia.backends.semihosting import Semihosting

    if config.chardev is not None and config.chardev not in lines:
        raise UserError(f"-semihosting-config: there is no chardev '{config.chardev}'")
    console = None if config.chardev is None else lines[config.chardev]
    return Semihosting(machine.post, console, config.arguments, config.userspace)
