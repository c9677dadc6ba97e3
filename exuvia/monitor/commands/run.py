"""Commands that start, stop and end the machine."""

from exuvia.monitor.monitor import Monitor, usage
from exuvia.support.errors import UserError, unknown


def do_help(monitor: Monitor, command: str = "") -> None:
    """show what the commands do"""
    if command and command not in monitor.commands:
        raise unknown("command", command, monitor.commands)
    for name, function in monitor.commands.items():
        if command in ("", name):
            monitor.print(f"{usage(name, function)} -- {function.__doc__}")


def do_quit(monitor: Monitor) -> None:
    """end the emulator at once"""
    monitor.machine.exit(0)


def do_stop(monitor: Monitor) -> None:
    """stop the processors and virtual time"""
    monitor.machine.pause()


def do_cont(monitor: Monitor) -> None:
    """go on after stop"""
    monitor.machine.resume()


def do_system_reset(monitor: Monitor) -> None:
    """reset the machine, as its reset button does"""
    monitor.machine.request_reset("monitor")


def do_system_powerdown(monitor: Monitor) -> None:
    """press the power button: the guest shuts down if it listens"""
    for device in monitor.machine.devices.values():
        press = getattr(device, "press_power_button", None)
        if press is not None:
            press()
            return
    raise UserError("this machine has no power button")


def do_cpu(monitor: Monitor, index: str) -> None:
    """choose the processor that the other commands look at"""
    if not index.isdigit() or int(index) >= len(monitor.machine.vcpus):
        raise UserError(f"there is no processor {index}")
    monitor.cpu = int(index)
