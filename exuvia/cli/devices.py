"""`-device` and `-global`: QEMU's other names of devices and of their properties (QEMU, System Emulation, Device Emulation)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from exuvia.cli import keyval
from exuvia.machines.config import DeviceConfig
from exuvia.support.errors import UserError, unknown

ALIASES = {"virtio-blk": "virtio-blk-pci", "virtio-blk-pci-non-transitional": "virtio-blk-pci"}

BUILT_IN = {
    "PIIX4_PM.disable_s3": ("1", "on", "true"),
    "PIIX4_PM.disable_s4": ("1", "on", "true"),
    "kvm-pit.lost_tick_policy": ("delay", "discard"),
    "mc146818rtc.lost_tick_policy": ("discard",),
    "virtio-mmio.force-legacy": ("false", "off"),
}
"""Properties that QEMU has of devices which machines bring along, and the values that say what is the case here."""

Global = tuple[str, str, str]  # device, property, value


def described_device(option: str, pairs: keyval.Pairs) -> tuple[str, keyval.Pairs]:
    """The device that `pairs`, of which the first is its name, ask for, and its properties. Raises UserError."""
    (_, name), *properties = pairs
    if name == "virtio-blk-pci-transitional":
        raise UserError(f"{option}: there is no legacy interface of virtio, write virtio-blk-pci")
    if name == "isa-serial":
        properties = _numbered(option, properties)
    return ALIASES.get(name, name), properties


def _numbered(option: str, properties: keyval.Pairs) -> keyval.Pairs:
    """A serial port with ports and interrupt in place of index=N."""
    index = dict(properties).get("index")
    if index is None:
        return properties
    if index not in ("0", "1", "2", "3"):
        raise UserError(f"{option}: index is 0 to 3, not '{index}'")
    from exuvia.machines.board import COM_PORTS

    port, line = COM_PORTS[int(index)]
    return [("iobase", hex(port)), ("irq", str(line)), *(pair for pair in properties if pair[0] != "index")]


def described_global(text: str) -> Global | None:
    """The default that `-global TEXT` gives a property of the user's devices; None where it says what is the case. Raises UserError."""
    from exuvia.devices.device import devices

    if "." in text.partition("=")[0]:
        place, equals, value = text.partition("=")
        driver, _, key = place.partition(".")
    else:
        said = keyval.only("global", keyval.parse(text), ("driver", "property", "value"))
        equals, driver, key, value = "=" if "value" in said else "", *(said.get(word, "") for word in ("driver", "property", "value"))
    if not (equals and driver and key):
        raise UserError(f"-global {text}: it is DEVICE.PROPERTY=VALUE")
    if (real := BUILT_IN.get(f"{driver}.{key}")) is not None:
        if value.lower() not in real:
            raise UserError(f"-global {text}: {driver}.{key} is {' or '.join(real)} here, leave it out")
        return None
    driver = ALIASES.get(driver, driver)
    if driver not in devices:
        raise UserError(f"-global {text}: {unknown('device', driver, devices)}")
    kind = devices[driver]
    if kind.plugs_into == "sysbus":
        raise UserError(f"-global {text}: {driver} is part of the machine and has nothing to set")
    if key.replace("_", "-") not in kind.properties:
        raise unknown(f"property of {driver}", key, kind.properties)
    return driver, key, value


def with_globals(made: Iterable[DeviceConfig], defaults: Sequence[Global]) -> tuple[DeviceConfig, ...]:
    """The devices, with what -global says of properties that they do not set themselves."""
    return tuple(
        replace(device, properties=(*((key, value) for name, key, value in defaults if name == device.name), *device.properties))
        for device in made
    )
