"""What the command line has said so far, and the machine that it describes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from exuvia.cli import accel, keyval, memory, smp
from exuvia.cli.devices import Global, with_globals
from exuvia.cli.drive_options import described_drive
from exuvia.cli.memory import Node
from exuvia.cli.targets import Target
from exuvia.machines.config import ChardevConfig, DeviceConfig, DriveConfig, MachineConfig, SemihostingConfig
from exuvia.support.errors import UserError, unknown


class Answered(Exception):
    """The option was a question; `text` is the answer, to be printed before the command ends with status 0."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass
class Draft:
    """What the options have said so far."""

    program: str
    target: Target
    machine: str = ""
    machine_options: keyval.Pairs = field(default_factory=list)
    accel: list[str] = field(default_factory=list)
    accel_options: keyval.Pairs = field(default_factory=list)
    cpu: str = ""
    cpu_features: list[tuple[str, bool]] = field(default_factory=list)
    smp: keyval.Pairs = field(default_factory=list)
    memory: int = 128 << 20
    backends: dict[str, int] = field(default_factory=dict)  # bytes of memory by the object's id
    memory_backends: list[tuple[str, str]] = field(default_factory=list)  # option and id
    nodes: list[Node] = field(default_factory=list)
    kernel: str | None = None
    initrd: str | None = None
    append: str = ""
    dtb: str | None = None
    firmware: str | None = None
    folders: list[str] = field(default_factory=list)  # where it is looked for
    nographic: bool = False
    defaults: bool = True
    serial: list[str] = field(default_factory=list)
    monitors: list[str] = field(default_factory=list)
    chardevs: list[ChardevConfig] = field(default_factory=list)
    drives: list[DriveConfig] = field(default_factory=list)
    blockdevs: dict[str, dict[str, Any]] = field(default_factory=dict)  # descriptions by node name
    snapshot: bool = False
    flash: dict[int, str] = field(default_factory=dict)  # drives or nodes by bank
    devices: list[DeviceConfig] = field(default_factory=list)
    globals: list[Global] = field(default_factory=list)
    iothreads: set[str] = field(default_factory=set)
    files: list[tuple[str, bytes | str]] = field(default_factory=list)
    strict_boot: bool = False
    no_reboot: bool = False
    no_shutdown: bool = False
    paused: bool = False
    rtc_base: str = "utc"
    name: str = ""
    uuid: str | None = None
    semihosting: bool = False
    semihosting_options: keyval.Pairs = field(default_factory=list)
    shared: list[str] = field(default_factory=list)  # the lines that `mon:` shares with a monitor
    process: str = ""
    pidfile: str | None = None
    timestamps: bool = False
    background: bool = False
    log_items: str = ""
    log_file: str | None = None

    def __post_init__(self) -> None:
        self.machine = self.machine or self.target.machine

    def line(self, option: str, spec: str, id: str) -> str | None:
        """The id of the backend for `-serial SPEC` and the like, which is made here unless it is `chardev:ID`; None for `none`."""
        if spec == "none":
            return None
        if spec.startswith("chardev:"):
            return spec.removeprefix("chardev:")
        extra: keyval.Pairs = []
        plain = spec.removeprefix("mon:")
        if plain != spec:
            extra = [("mux", "on")] + ([("signal", "off")] if plain == "stdio" else [])
            self.shared.append(id)
        kind, _, rest = plain.partition(":")
        parts = keyval.split(rest)
        match kind:
            case "stdio" | "null" | "pty" if not rest:
                options: keyval.Pairs = []
            case "file" if rest:
                options = [("path", rest)]
                parts = []
            case "unix" if rest:
                kind, options = "socket", [("path", parts[0])]
            case "tcp" if ":" in parts[0]:
                host, _, port = parts[0].rpartition(":")
                kind, options = "socket", [*([("host", host)] if host else []), ("port", port)]
            case _:
                kinds = "none, null, stdio, mon:stdio, pty, file:PATH, unix:PATH, tcp:HOST:PORT or chardev:ID"
                raise UserError(f"-{option} {spec}: no such line; it is {kinds}")
        if kind == "socket" and len(parts) > 1:
            options += keyval.parse(rest.split(",", 1)[1])
        self.chardevs.append(ChardevConfig(id=id, kind=kind, options=(*options, *extra)))
        return id

    def _all_drives(self) -> Iterator[DriveConfig]:
        """-drive's and those of -blockdev that a device names: others stand under them."""
        used = {device.get("drive") for device in self.devices}
        banks = {id: bank for bank, id in self.flash.items()}
        for bank, id in self.flash.items():
            if id not in self.blockdevs and all(made.id != id for made in self.drives):
                raise unknown(f"drive or node in -machine pflash{bank}", id, [*self.blockdevs, *(made.id for made in self.drives)])
        for name, said in self.blockdevs.items():
            if name in used or name in banks:
                yield replace(described_drive(name, said, self.blockdevs), snapshot=self.snapshot, flash=banks.get(name))
        for made in self.drives:
            yield replace(made, snapshot=made.snapshot or self.snapshot, flash=banks.get(made.id, made.flash))

    def _all_devices(self) -> tuple[DeviceConfig, ...]:
        for device in self.devices:
            if (id := device.get("iothread", "")) and id not in self.iothreads:
                raise UserError(f"-device {device.name}: there is no object '{id}' (-object iothread,id={id} makes it)")
        return with_globals(self.devices, self.globals)

    def config(self) -> MachineConfig:
        """The machine that was described."""
        from exuvia.machines.machine import machines

        processors, topology = smp.layout(self.smp or [("cpus", "1")], self.machine, machines[self.machine].levels)
        accel.must_suit(self.accel_options, processors)
        named = memory.one_node(self.nodes, self.memory, processors)
        memory.must_be_all(self.memory, self.backends, [*self.memory_backends, *named])
        serial_specs, monitor_specs = list(self.serial), list(self.monitors)
        if self.defaults and not serial_specs:
            serial_specs = ["mon:stdio" if self.nographic and not monitor_specs else "stdio" if self.nographic else "null"]
        serial = [self.line("serial", spec, f"serial{number}") for number, spec in enumerate(serial_specs)]
        if self.nographic and self.defaults and not (monitor_specs or self.shared or any(made.kind == "stdio" for made in self.chardevs)):
            monitor_specs = ["stdio"]  # the terminal is free
        own = [self.line("monitor", spec, f"monitor{number}") for number, spec in enumerate(monitor_specs)]
        self._must_need_no_terminal()
        monitors = [*self.shared, *(id for id in own if id is not None)]
        return MachineConfig(
            machine=self.machine,
            machine_options=tuple(self.machine_options),
            accel=tuple(self.accel) or ("software",),
            accel_options=tuple(self.accel_options),
            cpu=self.cpu or self.target.cpu,
            cpu_features=tuple(self.cpu_features),
            bits=self.target.bits,
            order=self.target.order,
            smp=processors,
            topology=topology,
            memory=self.memory,
            kernel=self.kernel,
            initrd=self.initrd,
            append=self.append,
            dtb=self.dtb,
            firmware=self._found_firmware(),
            serial=tuple(serial),
            chardevs=tuple(self.chardevs),
            drives=(*self._all_drives(),),
            monitors=tuple(monitors),
            devices=self._all_devices(),
            files=tuple(self.files),
            strict_boot=self.strict_boot,
            no_reboot=self.no_reboot,
            no_shutdown=self.no_shutdown,
            paused=self.paused,
            rtc_base=self.rtc_base,
            name=self.name,
            uuid=self.uuid,
            semihosting=self._semihosting() if self.semihosting else None,
        )

    def _found_firmware(self) -> str | None:
        """-bios FILE, as it is named or in a folder of -L."""
        name = self.firmware
        if name is None or os.path.exists(name):
            return name
        return next((path for folder in self.folders if os.path.exists(path := os.path.join(folder, name))), name)

    def _must_need_no_terminal(self) -> None:
        """Raises UserError where something of a process in the background is to be on the terminal."""
        if self.background and (self.nographic or any(made.kind == "stdio" for made in self.chardevs)):
            raise UserError(
                "-daemonize: the terminal is not there then: leave -nographic and stdio out, write -display none -serial file:PATH"
            )

    def _semihosting(self) -> SemihostingConfig:
        said = dict(self.semihosting_options)
        words = [value for key, value in self.semihosting_options if key == "arg"]
        if not words and self.kernel is not None:
            words = [self.kernel, *self.append.split()]
        return SemihostingConfig(chardev=said.get("chardev"), userspace=said.get("userspace") == "on", arguments=tuple(words))
