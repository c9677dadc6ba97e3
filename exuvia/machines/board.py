"""What machines with slots for the user's devices have in common: an ISA bus, a PCI bus, `-device`, the host's side by name."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from exuvia.boot.acpi import COM_PORTS as COM_PORTS  # by index: the first port, the interrupt
from exuvia.boot.image import read_image
from exuvia.boot.layout import MIB
from exuvia.devices.debug.isa_debug_exit import IsaDebugExit
from exuvia.devices.device import Backend, Device, Sink, WiredOr, devices
from exuvia.devices.firmware.fw_cfg import NAME_SIZE, Items
from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.device import PciDevice
from exuvia.machines.config import DeviceConfig
from exuvia.machines.machine import Machine
from exuvia.support.errors import UserError

D = TypeVar("D", bound=Device)
LONGEST_FILE = (1 << 32) - 1  # of fw_cfg


class Board(Machine):
    """A machine with `lines`, the ISA interrupts, and `pci`."""

    lines: list[WiredOr]
    pci: PciBus
    bus_names: ClassVar[dict[str, str]] = {}  # by kind, where QEMU's is not the kind's name with .0

    def must_fit(self, least: int, most: int) -> None:
        """Raises UserError unless `-m` is whole MiB between these bytes."""
        memory = self.config.memory
        if not least <= memory <= most or memory % MIB:
            given = memory / MIB if memory % MIB else memory // MIB
            raise UserError(f"-m: a {self.name} takes whole MiB from {least // MIB} to {most // MIB}, not {given}")

    def must_run_something(self, otherwise: bool = False) -> None:
        """Raises UserError where neither a kernel nor firmware was given, nor something else, or what belongs to a kernel without one."""
        config = self.config
        if config.kernel is None and config.firmware is None and not otherwise:
            raise UserError("nothing to run: give -kernel FILE or -bios FILE")
        if config.kernel is None and (config.initrd is not None or config.append):
            raise UserError(f"{'-initrd' if config.initrd is not None else '-append'} belongs to -kernel, and there is none")

    def either_kernel_or_firmware(self) -> None:
        """Raises UserError where both were given, of a machine whose kernels begin without firmware."""
        if self.config.kernel is not None and self.config.firmware is not None:
            raise UserError("-bios: a kernel given with -kernel begins without firmware, leave one of them out")

    def place(self, label: str, device: D, port: int, count: int, line: int | None = None) -> D:
        """Add `device`, show it at `count` ports from `port` on, and connect its interrupt."""
        self.add(label, device)
        self.ports.map_device(port, count, device)
        if line is not None:
            device.irq.connect(self.lines[line].input())  # type: ignore[attr-defined]
        return device

    def flash_drives(self) -> dict[int, str]:
        """The drives that are banks of flash memory, by number; firmware that -bios names takes the first bank."""
        free = list(range(self.config.firmware is not None, self.flash_banks))
        found: dict[int, str] = {}
        for drive in self.config.drives:
            if drive.flash is not None:
                bank = drive.flash if drive.flash >= 0 else free[0] if free else -1
                if bank not in free:
                    which = f"{self.flash_banks} in all; -bios takes the first"
                    raise UserError(f"{drive.option}: no such bank of a {self.name}'s flash memory is free ({which})")
                free.remove(bank)
                found[bank] = drive.id
        return found

    def offer(self, fw_cfg: Items) -> None:
        """Every `-fw_cfg`."""
        for path, said in self.config.files:
            content = said if isinstance(said, bytes) else read_image(f"-fw_cfg {path}:", said, LONGEST_FILE)
            try:
                fw_cfg.add_file(path, content)
            except ValueError:
                raise UserError(f"-fw_cfg {path}: a name has at most {NAME_SIZE - 1} characters of ASCII and is given once") from None

    def power_off(self, level: bool) -> None:
        """The sink of a wire on which the guest asks for that."""
        if level:
            self.request_shutdown()

    def resetting(self, reason: str) -> Sink:
        """The sink of a wire that resets the machine."""

        def follow(level: bool) -> None:
            if level:
                self.request_reset(reason)

        return follow

    def chardev(self, identity: str) -> Any:
        """A character backend of the user's."""
        if identity not in self.chardevs:
            raise UserError(f"there is no chardev '{identity}'")
        return self.chardevs[identity]

    def drive(self, identity: str) -> Any:
        """A disk of the user's."""
        if identity not in self.drives:
            raise UserError(f"there is no drive '{identity}' (-drive file=FILE,if=none,id={identity} makes one)")
        return self.drives[identity]

    def plug_devices(self) -> None:
        """Every `-device`."""
        for number, wanted in enumerate(self.config.devices):
            self._plug(wanted, wanted.get("id") or f"device{number}")

    def _plug(self, wanted: DeviceConfig, label: str) -> None:
        """One `-device`: make it, and plug it into the bus that it is made for."""
        kind = devices[wanted.name]
        if kind.plugs_into == "sysbus":
            raise UserError(f"-device {wanted.name}: is part of the machine and cannot be added")
        bus = self.bus_names.get(kind.plugs_into, f"{kind.plugs_into}.0")
        if (named := wanted.get("bus", bus)) not in (bus, f"{kind.plugs_into}.0"):
            raise UserError(f"-device {wanted.name}: it plugs into {bus}, not into '{named}'")
        if wanted.get("addr") is not None and kind.plugs_into != "pci":
            raise UserError(f"-device {wanted.name}: only devices of the bus {self.bus_names.get('pci', 'pci.0')} have an addr")
        given = {key: value for key, value in wanted.properties if key not in ("id", "bus", "addr")}
        properties = kind.configure(given)
        for name, declared in kind.properties.items():
            if isinstance(declared, Backend) and declared.of == "drives" and name not in given:
                raise UserError(f"-device {wanted.name}: it needs {name}=ID")
        for name, value in properties.items():
            declared = getattr(kind, name)
            if isinstance(declared, Backend):
                properties[name] = self.chardev(value) if declared.of == "chardevs" else self.drive(value)
        device = kind(**properties)
        if label in self.devices:
            raise UserError(f"-device {wanted.name}: the id '{label}' is taken")
        if isinstance(device, PciDevice):
            self.add(label, device)
            self.pci.attach(device, *_pci_address(wanted))
        elif kind.plugs_into == "isa":
            self.plug_isa(label, device)
        else:
            self.plug_elsewhere(label, device)

    def plug_elsewhere(self, label: str, device: Device) -> None:
        """A device for a bus of another kind, where a machine has one."""
        raise UserError(f"-device {device.name}: a {self.name} has no {device.plugs_into} bus")

    def plug_isa(self, label: str, device: Any) -> None:
        """A device for the ISA bus: at ports, with an interrupt."""
        count = getattr(device, "iosize", device.window)
        line = getattr(device, "line", None)
        if count < 1 or device.iobase + count > 0x10000 or (line is not None and not (0 <= line < 16 and line != 2)):
            raise UserError(f"-device {device.name}: no such ports or interrupt")
        self.place(label, device, device.iobase, count, line)
        if isinstance(device, IsaDebugExit):
            device.on_exit = self.exit


def _pci_address(wanted: DeviceConfig) -> tuple[int | None, int]:
    """`addr=SLOT.FUNCTION`, hexadecimal. UserError when it is none."""
    text = wanted.get("addr")
    if text is None:
        return None, 0
    slot, _, function = text.partition(".")
    try:
        return int(slot, 16), int(function or "0", 16)
    except ValueError:
        raise UserError(f"-device {wanted.name}: addr is SLOT.FUNCTION, not '{text}'") from None
