"""What `-X help` prints, and names checked against what there is. Imports only what the question needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from exuvia.cli.keyval import split
from exuvia.cli.targets import TARGETS, Target
from exuvia.support.errors import UserError, unknown

HOST = "host"
"""The model that is no model: what KVM gives of the host's processor."""


def _table(rows: Mapping[str, str]) -> str:
    return "".join(f"{name:<20} {text}\n" for name, text in rows.items()) or "none\n"


def version(program: str) -> str:
    """The text of -version."""
    from exuvia import __version__

    return f"{program} (Exuvia) version {__version__}\n"


def machine(target: Target, name: str) -> str:
    """`name` if there is such a machine with this target's processors."""
    from exuvia.machines.machine import machines

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
    return _table({name: kind.description + (" (default)" if name == target.machine else "") for name, kind in fitting.items()})


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

    return _table(ACCELERATORS)


def cpu(architecture: str, name: str) -> str:
    """`name` if there is such a model."""
    from exuvia.isa import cpus

    known = _models(cpus(architecture).MODELS, architecture)
    if name not in known:
        raise unknown("processor model", name, known)
    return name


def _models(models: Mapping[str, Any], architecture: str) -> dict[str, str]:
    host = {HOST: "this host's own processor, with -accel kvm"} if architecture == "x86" else {}
    return {name: kind.about for name, kind in models.items()} | host


def feature(architecture: str, name: str) -> str:
    """The feature's own name, if there is such a feature."""
    from exuvia.isa import UnknownName, cpus

    try:
        return str(cpus(architecture).canonical_name(name))
    except UnknownName as error:
        raise UserError(str(error)) from None


def described_cpu(option: str, architecture: str, text: str) -> tuple[str, list[tuple[str, bool]]]:
    """`MODEL,+FEATURE,-FEATURE,FEATURE=on|off`: the model, and what is added and taken away in order."""
    name, *rest = split(text)
    features = []
    for part in rest:
        if part in ("check", "enforce"):  # what is asked for is there, or an error
            continue
        if part[:1] in "+-" and len(part) > 1:
            bare, wanted = part[1:], part[0] == "+"
        else:
            bare, equals, switch = part.partition("=")
            if equals and switch not in ("on", "off"):
                raise UserError(f"{option}: feature '{bare}' is on or off, not '{switch}'")
            wanted = switch != "off"
        features.append((feature(architecture, bare), wanted))
    return cpu(architecture, name), features


def cpu_list(architecture: str) -> str:
    """Models and features."""
    from textwrap import fill

    from exuvia.isa import cpus

    described = cpus(architecture)
    models = _table(_models(described.MODELS, architecture))
    features = fill(" ".join(sorted(described.FEATURES)), 100, initial_indent="  ", subsequent_indent="  ")
    return f"{models}\nfeatures, each with + or - in front:\n{features}\n"


def chardev(kind: str) -> str:
    """`kind` if there is such a backend."""
    from exuvia.backends.chardev.chardev import chardevs

    return chardevs[kind].name


def chardev_list() -> str:
    """The kinds of character backends."""
    from exuvia.backends.chardev.chardev import chardevs

    return _table({name: (kind.__doc__ or "").split(". ")[0].rstrip(".") for name, kind in chardevs.items()})


def chardev_help(kind: str) -> str:
    """The options of one kind."""
    from exuvia.backends.chardev.chardev import chardevs

    return _table(chardevs[kind].options)


def device(name: str, properties: Sequence[str] = ()) -> str:
    """`name` if there is such a device with these properties."""
    from exuvia.devices.device import devices

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
    return _table(rows)


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
        rows[f"{key}=<{declared.type.__name__}>"] = declared.help + ("" if value in (None, "") else f" (default {value})")
    return _table(rows)


def log_list() -> str:
    """The items of -d."""
    from exuvia.support import log

    return log.help_text()
