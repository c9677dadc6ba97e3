"""QEMU's options, one function each: `opt_x(draft, value)` is `-x VALUE`, without `value` it is a flag. The docstring is the help.

(QEMU, System Emulation, Invocation.) They fill a `Draft`, which becomes the MachineConfig.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from inspect import isfunction, signature
from typing import Any

from exuvia.cli import keyval, listings
from exuvia.cli.drive_options import blockdev, described_drive, drive, no_ide
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
    smp: int = 1
    memory: int = 128 << 20
    kernel: str | None = None
    initrd: str | None = None
    append: str = ""
    dtb: str | None = None
    firmware: str | None = None
    nographic: bool = False
    defaults: bool = True
    serial: list[str] = field(default_factory=list)
    monitors: list[str] = field(default_factory=list)
    chardevs: list[ChardevConfig] = field(default_factory=list)
    drives: list[DriveConfig] = field(default_factory=list)
    blockdevs: dict[str, dict[str, Any]] = field(default_factory=dict)  # descriptions by node name
    snapshot: bool = False
    devices: list[DeviceConfig] = field(default_factory=list)
    no_reboot: bool = False
    no_shutdown: bool = False
    paused: bool = False
    rtc_base: str = "utc"
    name: str = ""
    uuid: str | None = None
    semihosting: bool = False
    semihosting_options: keyval.Pairs = field(default_factory=list)
    shared: list[str] = field(default_factory=list)  # the lines that `mon:` shares with a monitor
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
        for name, said in self.blockdevs.items():
            if name in used:
                yield replace(described_drive(name, said, self.blockdevs), snapshot=self.snapshot)
        for made in self.drives:
            yield replace(made, snapshot=True) if self.snapshot else made

    def config(self) -> MachineConfig:
        """The machine that was described."""
        serial_specs, monitor_specs = list(self.serial), list(self.monitors)
        if self.defaults and not serial_specs:
            serial_specs = ["mon:stdio" if self.nographic and not monitor_specs else "stdio" if self.nographic else "null"]
        serial = [self.line("serial", spec, f"serial{number}") for number, spec in enumerate(serial_specs)]
        if self.nographic and self.defaults and not (monitor_specs or self.shared or any(made.kind == "stdio" for made in self.chardevs)):
            monitor_specs = ["stdio"]  # the terminal is free
        own = [self.line("monitor", spec, f"monitor{number}") for number, spec in enumerate(monitor_specs)]
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
            smp=self.smp,
            memory=self.memory,
            kernel=self.kernel,
            initrd=self.initrd,
            append=self.append,
            dtb=self.dtb,
            firmware=self.firmware,
            serial=tuple(serial),
            chardevs=tuple(self.chardevs),
            drives=(*self._all_drives(),),
            monitors=tuple(monitors),
            devices=tuple(self.devices),
            no_reboot=self.no_reboot,
            no_shutdown=self.no_shutdown,
            paused=self.paused,
            rtc_base=self.rtc_base,
            name=self.name,
            uuid=self.uuid,
            semihosting=self._semihosting() if self.semihosting else None,
        )

    def _semihosting(self) -> SemihostingConfig:
        said = dict(self.semihosting_options)
        words = [value for key, value in self.semihosting_options if key == "arg"]
        if not words and self.kernel is not None:
            words = [self.kernel, *self.append.split()]
        return SemihostingConfig(chardev=said.get("chardev"), userspace=said.get("userspace") == "on", arguments=tuple(words))


def _only(option: str, pairs: keyval.Pairs, known: Sequence[str]) -> dict[str, str]:
    for key, _ in pairs:
        if key not in known:
            raise unknown(f"property of -{option}", key, known)
    return dict(pairs)


def opt_machine(draft: Draft, value: str) -> None:
    """NAME[,accel=ACCEL][,kernel-irqchip=on|split|off][,PROPERTY=VALUE]: the machine; -machine help lists them, -machine NAME,help
    its properties"""
    if value in ("help", "?"):
        raise Answered(listings.machine_list(draft.target))
    options: keyval.Pairs = []
    pairs = keyval.parse(value, "type")
    for key, text in pairs:
        if key == "type":
            draft.machine = listings.machine(draft.target, text)
        elif key == "accel":
            draft.accel = _accelerators(text)
        elif key.replace("_", "-") == "kernel-irqchip":
            draft.accel_options.append(_kernel_irqchip(text))
        elif key in ("help", "?"):
            raise Answered(listings.machine_help(draft.machine))
        else:
            options.append((key, text))
    listings.machine_options(draft.machine, options)
    draft.machine_options += options


opt_M = opt_machine


def opt_accel(draft: Draft, value: str) -> None:
    """NAME[:NAME][,regions=on|off|check][,kernel-irqchip=on|split|off]: how the processor runs, a second choice behind a colon or given
    again; -accel help lists them"""
    if value in ("help", "?"):
        raise Answered(listings.accelerator_list())
    pairs = _only("accel", keyval.parse(value, "accel"), ["accel", "regions", "kernel-irqchip"])
    draft.accel += _accelerators(pairs.get("accel", ""))
    if pairs.get("regions", "on") not in ("on", "off", "check"):
        raise UserError(f"-accel {value}: regions is on, off, or check: both, side by side, until they differ")
    for key, text in pairs.items():
        if key == "kernel-irqchip":
            draft.accel_options.append(_kernel_irqchip(text))
        elif key != "accel":
            draft.accel_options.append((key, text))


def _accelerators(text: str) -> list[str]:
    return [listings.accelerator(name) for name in text.split(":")]


def _kernel_irqchip(text: str) -> tuple[str, str]:
    if text not in ("on", "split", "off"):
        raise UserError(f"kernel-irqchip is on, split or off, not '{text}'")
    return "kernel-irqchip", text


def opt_enable_kvm(draft: Draft) -> None:
    """run on the host's own processor: -accel kvm"""
    draft.accel.append("kvm")


def opt_cpu(draft: Draft, value: str) -> None:
    """MODEL[,+FEATURE][,-FEATURE]: the processor, or host, with -accel kvm; -cpu help lists models and features"""
    if value in ("help", "?"):
        raise Answered(listings.cpu_list(draft.target.architecture))
    draft.cpu, features = listings.described_cpu("-cpu", draft.target.architecture, value)
    draft.cpu_features += features


def opt_smp(draft: Draft, value: str) -> None:
    """N: the number of processors"""
    count = _only("smp", keyval.parse(value, "cpus"), ["cpus"])["cpus"]
    if not re.fullmatch(r"\d{1,6}", count):
        raise UserError(f"-smp: '{count}' is no number of processors")
    draft.smp = int(count)


def opt_m(draft: Draft, value: str) -> None:
    """SIZE: memory, in MiB or with K, M, G, T (default 128)"""
    try:
        draft.memory = keyval.size(_only("m", keyval.parse(value, "size"), ["size"])["size"])
    except UserError as error:
        raise UserError(f"-m: {error}") from None


def opt_kernel(draft: Draft, value: str) -> None:
    """FILE: boot this Linux (bzImage), multiboot or PVH kernel"""
    draft.kernel = value


def opt_initrd(draft: Draft, value: str) -> None:
    """FILE: the initial RAM disk; for multiboot 'FILE ARGUMENTS,FILE' are modules"""
    draft.initrd = value


def opt_append(draft: Draft, value: str) -> None:
    """TEXT: the kernel's command line"""
    draft.append = value


def opt_dtb(draft: Draft, value: str) -> None:
    """FILE: give the kernel this device tree instead of the machine's own"""
    draft.dtb = value


def opt_bios(draft: Draft, value: str) -> None:
    """FILE: run this firmware"""
    draft.firmware = value


def opt_nographic(draft: Draft) -> None:
    """serial port and monitor share the terminal; Ctrl-A h shows its keys"""
    draft.nographic = True


def opt_display(draft: Draft, value: str) -> None:
    """none: no screen, the only choice"""
    if value in ("help", "?"):
        raise Answered("none       no screen\n")
    if value != "none":
        raise unknown("display", value, ["none"])


def opt_nodefaults(draft: Draft) -> None:
    """leave out what is there unless asked for: the serial port"""
    draft.defaults = False


def opt_serial(draft: Draft, value: str) -> None:
    """LINE: none, null, stdio, mon:stdio, pty, file:PATH, unix:PATH, tcp:HOST:PORT, chardev:ID; again for the next port"""
    draft.serial.append(value)


def opt_monitor(draft: Draft, value: str) -> None:
    """LINE: where the monitor is, a line as for -serial; again for a further one"""
    draft.monitors.append(value)


def opt_chardev(draft: Draft, value: str) -> None:
    """KIND,id=ID[,KEY=VALUE]: a character backend; -chardev help lists the kinds"""
    if value in ("help", "?"):
        raise Answered(listings.chardev_list())
    pairs = keyval.parse(value, "backend")
    named = dict(pairs)
    kind = named.get("backend", "")
    if "help" in named:
        raise Answered(listings.chardev_help(kind))
    if not named.get("id"):
        raise UserError(f"-chardev {value}: it needs id=ID")
    options = tuple(pair for pair in pairs if pair[0] not in ("backend", "id"))
    draft.chardevs.append(ChardevConfig(id=named["id"], kind=listings.chardev(kind), options=options))


def opt_device(draft: Draft, value: str) -> None:
    """NAME[,PROPERTY=VALUE]: add a device; -device help lists them, -device NAME,help its properties"""
    if value in ("help", "?"):
        raise Answered(listings.device_list())
    (key, name), *properties = keyval.parse(value, "driver")
    if key != "driver":
        raise UserError(f"-device {value}: it begins with the device's name")
    if any(key in ("help", "?") for key, _ in properties):
        raise Answered(listings.device_help(name))
    draft.devices.append(DeviceConfig(name=listings.device(name, [key for key, _ in properties]), properties=tuple(properties)))


def opt_drive(draft: Draft, value: str) -> None:
    """file=FILE,if=virtio|none|pflash[,format=FORMAT][,id=ID][,readonly=on][,snapshot=on][,cache=MODE][,discard=unmap]: a disk"""
    made, device = drive(value, len(draft.drives))
    draft.drives.append(made)
    if device is not None:
        draft.devices.append(device)


def opt_blockdev(draft: Draft, value: str) -> None:
    """driver=DRIVER,node-name=ID,KEY=VALUE or JSON: a disk for -device virtio-blk-pci,drive=ID, or what one stands on"""
    name, said = blockdev(value)
    if name in draft.blockdevs:
        raise UserError(f"-blockdev {value}: there is a node '{name}' already")
    draft.blockdevs[name] = said


def opt_snapshot(draft: Draft) -> None:
    """what the guest writes to disks goes to temporary images, which go at the end"""
    draft.snapshot = True


def opt_hda(draft: Draft, value: str) -> None:
    """FILE: an IDE disk, which there is not yet; -drive file=FILE,if=virtio is"""
    raise no_ide(f"-hda {value}", value)


def opt_no_reboot(draft: Draft) -> None:
    """end where the machine would be reset"""
    draft.no_reboot = True


def opt_no_shutdown(draft: Draft) -> None:
    """stop, but do not end, when the guest powers off"""
    draft.no_shutdown = True


def opt_S(draft: Draft) -> None:
    """begin stopped; the monitor's cont starts it"""
    draft.paused = True


def opt_rtc(draft: Draft, value: str) -> None:
    """base=utc|localtime|DATE: what the clock shows at the start"""
    base = _only("rtc", keyval.parse(value), ["base"])["base"]
    if base not in ("utc", "localtime") and not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?", base):
        raise UserError(f"-rtc: base is utc, localtime or a date such as 2026-01-31T12:00:00, not '{base}'")
    draft.rtc_base = base


def opt_name(draft: Draft, value: str) -> None:
    """NAME: a name for the machine"""
    draft.name = _only("name", keyval.parse(value, "guest"), ["guest"])["guest"]


def opt_uuid(draft: Draft, value: str) -> None:
    """UUID: the machine's UUID, which the guest sees in SMBIOS"""
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value):
        raise UserError(f"-uuid: '{value}' is no UUID")
    draft.uuid = value


def opt_semihosting(draft: Draft) -> None:
    """the guest may call the host, which gives it the host's files: Arm's HLT #0xF000, MIPS' SDBBP 1"""
    draft.semihosting = True


def opt_semihosting_config(draft: Draft, value: str) -> None:
    """[enable=on|off][,target=native|auto][,chardev=ID][,userspace=on|off][,arg=WORD...]: likewise, its console (default: standard error),
    whether unprivileged code may, and the guest's command line (default: -kernel and -append)"""
    pairs = keyval.parse(value)
    said = {"enable": "on", **_only("semihosting-config", pairs, ["enable", "target", "chardev", "userspace", "arg"])}
    for key in ("enable", "userspace"):
        if said.get(key, "on") not in ("on", "off"):
            raise UserError(f"-semihosting-config: {key} is on or off, not '{said[key]}'")
    if said.get("target", "auto") not in ("native", "auto"):
        raise UserError(f"-semihosting-config: target is native, or auto, which is native: there is no debugger, not '{said['target']}'")
    draft.semihosting = said["enable"] == "on"
    draft.semihosting_options += pairs


def opt_d(draft: Draft, value: str) -> None:
    """ITEM,ITEM: log these to standard error; -d help lists them"""
    if value in ("help", "?"):
        raise Answered(listings.log_list())
    draft.log_items = value


def opt_D(draft: Draft, value: str) -> None:
    """FILE: log to FILE"""
    draft.log_file = value


def opt_version(draft: Draft) -> None:
    """print the version and end"""
    raise Answered(listings.version(draft.program))


def opt_help(draft: Draft) -> None:
    """print this help and end"""
    lines = [f"usage: {draft.program} [options]", ""]
    for name, function in sorted(OPTIONS.items(), key=lambda item: (item[0].lower(), item[0])):
        text = function.__doc__ or ""
        value, _, rest = text.partition(": ")
        shown = (f"-{name} {value}", rest) if takes_value(function) else (f"-{name}", text)
        lines.append(f"{shown[0]:<28} {shown[1]}" if len(shown[0]) <= 28 else f"{shown[0]}\n{'':<28} {shown[1]}")
    raise Answered("\n".join(lines) + "\n")


opt_h = opt_help


def takes_value(function: Callable[..., None]) -> bool:
    """Whether the option has a value."""
    return len(signature(function).parameters) == 2


OPTIONS: dict[str, Callable[..., None]] = {
    name.removeprefix("opt_").replace("_", "-"): value
    for name, value in list(vars().items())
    if name.startswith("opt_") and isfunction(value)
}
