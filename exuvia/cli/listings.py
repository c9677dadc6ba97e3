"""What `-X help` prints, and names checked against what there is. Imports only what the question needs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from exuvia.cli import absent
from exuvia.cli.targets import TARGETS, Target
from exuvia.support.errors import UserError, unknown

VERSIONED = {"pc-i440fx": "pc", "virt": "virt"}
"""Machines that QEMU has a version of for each of its own; here is one of each."""
VERSION = r"^(pc-i440fx|virt)-(?:rhel)?\d+(?:\.\d+)+$"


def table(rows: Mapping[str, str]) -> str:
    """Names and what they are, a line each."""
    return "".join(f"{name:<20} {text}\n" for name, text in rows.items()) or "none\n"


def version(program: str) -> str:
    """The text of -version."""
    from exuvia import __version__

    return f"{program} (Exuvia) version {__version__}\n"


def machine(target: Target, name: str) -> str:
    """`name` if there is such a machine with this target's processors."""
    from exuvia.machines.machine import machines

    name = re.sub(VERSION, lambda match: VERSIONED[match[1]], name)
    if name not in machines:
        raise unknown("machine", name, (known for known, kind in machines.items() if kind.architecture == target.architecture))
    kind = machines[name]
    if kind.architecture != target.architecture:
        fitting = [name for name, other in TARGETS.items() if other.architecture == kind.architecture]
        them = f"exuvia-system-{' and exuvia-system-'.join(fitting)}"
        raise UserError(f"machine '{name}' has other processors: {them} make{'s' if len(fitting) == 1 else ''} it")
    return kind.name


def machine_list(target: Target) -> str:
    """The machines."""
    from exuvia.machines.machine import machines

    fitting = {name: kind for name, kind in machines.items() if kind.architecture == target.architecture}
    return table({name: kind.description + (" (default)" if name == target.machine else "") for name, kind in fitting.items()})


def machine_help(name: str) -> str:
    """The properties of one machine."""
    from exuvia.machines.machine import machines

    return _properties(machines[name].properties)


def machine_options(name: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Raises UserError unless the machine has these properties and they can have these values."""
    if not pairs:
        return
    from exuvia.devices.device import configured
    from exuvia.machines.machine import machines

    known = machines[name].properties
    for key, _ in pairs:
        if key.replace("_", "-") not in known:
            raise unknown("property of -machine", key, ["type", "accel", *known])
    configured("-machine", known, pairs)


def accelerator(name: str) -> str:
    """`name`, or what it is another name for."""
    from exuvia.vcpu.accelerators import ACCELERATORS, ALIASES

    name = ALIASES.get(name, name)
    if name not in ACCELERATORS:
        raise unknown("accelerator", name, ACCELERATORS)
    return name


def accelerator_list() -> str:
    """The accelerators."""
    from exuvia.vcpu.accelerators import ACCELERATORS

    return table(ACCELERATORS)


def chardev(kind: str) -> str:
    """`kind` if there is such a backend."""
    from exuvia.backends.chardev.chardev import chardevs

    return chardevs[kind].name


def chardev_list() -> str:
    """The kinds of character backends."""
    from exuvia.backends.chardev.chardev import chardevs

    return table({name: (kind.__doc__ or "").split(". ")[0].rstrip(".") for name, kind in chardevs.items()})


def chardev_help(kind: str) -> str:
    """The options of one kind."""
    from exuvia.backends.chardev.chardev import chardevs

    return table(chardevs[kind].options)


def device(name: str, properties: Sequence[str] = ()) -> str:
    """`name` if there is such a device with these properties."""
    from exuvia.devices.device import devices

    if name not in devices:
        absent.device(name)
    kind = devices[name]
    if kind.plugs_into == "sysbus":
        raise UserError(f"device '{name}' is part of the machine and cannot be added")
    known = ["id", "bus", "addr", *kind.properties]
    for key in properties:
        if key.replace("_", "-") not in known:
            raise unknown(f"property of {name}", key, known)
    return name


def device_list() -> str:
    """The devices that a user can add."""
    from exuvia.devices.device import devices

    rows = {
        name: f"{kind.plugs_into}: {(kind.__doc__ or '').splitlines()[0]}" for name, kind in devices.items() if kind.plugs_into != "sysbus"
    }
    return table(rows)


def device_help(name: str) -> str:
    """The properties of one device."""
    from exuvia.devices.device import devices

    return _properties(devices[device(name)].properties)


def _properties(known: Mapping[str, Any]) -> str:
    rows = {}
    for key, declared in known.items():
        value = declared.default
        if declared.type is bool:
            value = "on" if value else "off"
        elif declared.type is int and value > 255:  # a port
            value = f"{value:#x}"
        words = "|".join(filter(None, getattr(declared, "words", ()))) or declared.type.__name__
        rows[f"{key}=<{words}>"] = declared.help + ("" if value in (None, "") else f" (default {value})")
    return table(rows)


def log_list() -> str:
    """The items of -d."""
    from exuvia.support import log

    return log.help_text()
