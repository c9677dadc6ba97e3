"""QEMU's options, one function each: `opt_x(draft, value)` is `-x VALUE`, without `value` it is a flag. The docstring is the help.

(QEMU, System Emulation, Invocation.) They fill a `Draft`, which becomes the MachineConfig.
"""

import re
import sys
from collections.abc import Callable
from inspect import isfunction, signature
from types import ModuleType

from exuvia.cli import accel, cpu, keyval, listings, management, memory
from exuvia.cli.devices import described_device
from exuvia.cli.draft import Answered, Draft
from exuvia.cli.drive_options import blockdev, drive, no_ide
from exuvia.cli.keyval import only
from exuvia.machines.config import ChardevConfig, DeviceConfig
from exuvia.support.errors import UserError, unknown


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
            draft.accel = accel.named(text)
        elif key.replace("_", "-") == "kernel-irqchip":
            draft.accel_options.append(accel.kernel_irqchip(text))
        elif key in ("help", "?"):
            raise Answered(listings.machine_help(draft.machine))
        elif key in ("kernel", "initrd", "append", "dtb", "firmware"):
            setattr(draft, key, text)
        elif key == "memory-backend":
            draft.memory_backends.append((f"-machine memory-backend={text}", text))
        elif key in ("pflash0", "pflash1"):
            draft.flash[int(key[-1])] = text
        else:
            options.append((key, text))
    listings.machine_options(draft.machine, options)
    draft.machine_options += options


opt_M = opt_machine


def opt_accel(draft: Draft, value: str) -> None:
    """NAME[:NAME][,thread=multi|single][,regions=on|off|check][,kernel-irqchip=on|split|off]: how the processor runs, a second choice
    behind a colon or given again; -accel help lists them"""
    if value in ("help", "?"):
        raise Answered(listings.accelerator_list())
    names, options = accel.described(value)
    draft.accel += names
    draft.accel_options += options


def opt_enable_kvm(draft: Draft) -> None:
    """run on the host's own processor: -accel kvm"""
    draft.accel.append("kvm")


def opt_cpu(draft: Draft, value: str) -> None:
    """MODEL[,+FEATURE][,-FEATURE][,FEATURE=on|off]: the processor, or host, with -accel kvm; -cpu help lists models and features"""
    if value in ("help", "?"):
        raise Answered(cpu.listed(draft.target.architecture))
    draft.cpu, features = cpu.described("-cpu", draft.target.architecture, value)
    draft.cpu_features += features


def opt_smp(draft: Draft, value: str) -> None:
    """N[,sockets=N][,dies=N][,clusters=N][,cores=N][,threads=N][,maxcpus=N]: the number of processors, and how they lie"""
    draft.smp += keyval.parse(value, "cpus")


def opt_m(draft: Draft, value: str) -> None:
    """SIZE[,maxmem=SIZE]: memory, in MiB or with K, M, G, T (default 128); maxmem can be no more, as none is plugged in later"""
    draft.memory = memory.size(value, draft.memory)


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
    """NAME[,PROPERTY=VALUE] or JSON: add a device; -device help lists them, -device NAME,help its properties"""
    if value in ("help", "?"):
        raise Answered(listings.device_list())
    name, properties = described_device(f"-device {value}", keyval.described("-device", value, "driver"))
    if any(key in ("help", "?") for key, _ in properties):
        raise Answered(listings.device_help(name))
    draft.devices.append(DeviceConfig(name=listings.device(name, [key for key, _ in properties]), properties=tuple(properties)))


def opt_drive(draft: Draft, value: str) -> None:
    """file=FILE,if=virtio|none|pflash[,format=FORMAT][,id=ID][,readonly=on][,snapshot=on][,cache=MODE][,discard=unmap]: a disk"""
    made, device = drive(value, len(draft.drives))
    draft.drives.append(made)
    if device is not None:
        draft.devices.append(device)


def opt_pflash(draft: Draft, value: str) -> None:
    """FILE: a bank of flash memory, as -drive file=FILE,if=pflash,format=raw; again for the next"""
    draft.drives.append(drive(f"file={value.replace(',', ',,')},if=pflash,format=raw", len(draft.drives))[0])


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
    """[base=utc|localtime|DATE][,clock=vm|host][,driftfix=none|slew]: what the clock shows at the start; it runs with the machine, and
    ticks that the guest misses are lost, whatever the others say"""
    said = only("rtc", keyval.parse(value), ["base", "clock", "driftfix"])
    base = said.get("base", draft.rtc_base)
    if base not in ("utc", "localtime") and not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?", base):
        raise UserError(f"-rtc: base is utc, localtime or a date such as 2026-01-31T12:00:00, not '{base}'")
    if said.get("clock", "vm") not in ("vm", "host"):
        raise UserError(f"-rtc: clock is vm, or host, which is taken for it, not '{said['clock']}'")
    if said.get("driftfix", "none") not in ("none", "slew"):
        raise UserError(f"-rtc: driftfix is none or slew, not '{said['driftfix']}'")
    draft.rtc_base = base


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
    said = {"enable": "on", **only("semihosting-config", pairs, ["enable", "target", "chardev", "userspace", "arg"])}
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
        text = " ".join((function.__doc__ or "").split())
        value, _, rest = text.partition(": ")
        shown = (f"-{name} {value}", rest) if takes_value(function) else (f"-{name}", text)
        lines.append(f"{shown[0]:<28} {shown[1]}" if len(shown[0]) <= 28 else f"{shown[0]}\n{'':<28} {shown[1]}")
    raise Answered("\n".join(lines) + "\n")


opt_h = opt_help


def takes_value(function: Callable[..., None]) -> bool:
    """Whether the option has a value."""
    return len(signature(function).parameters) == 2


def _options(module: ModuleType) -> dict[str, Callable[..., None]]:
    found = {name.removeprefix("opt_"): value for name, value in vars(module).items() if name.startswith("opt_") and isfunction(value)}
    return {name if name in UNDERSCORED else name.replace("_", "-"): value for name, value in found.items()}


UNDERSCORED = ("fw_cfg",)
OPTIONS = _options(sys.modules[__name__]) | _options(management)
