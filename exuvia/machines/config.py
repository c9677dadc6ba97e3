"""What the user asked for: one frozen description of a machine, filled by the command line and read by `machines/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ChardevConfig:
    """One character backend, as in `-chardev KIND,id=ID,KEY=VALUE...`. `options` is what followed, in order, unchecked."""

    id: str
    kind: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DriveConfig:
    """One disk of the host's side, as in `-drive id=ID,...` or `-blockdev node-name=ID,...`.

    image     a file's name, or a description as in QMP's BlockdevOptions
    format    None: to be found out
    cache     None or a cache mode
    discard   whether what the guest gives up is given up
    flash     None, or the bank of flash memory that it is, -1 for the next one
    snapshot  writes go to a temporary image
    option    what the user wrote, for messages
    """

    id: str
    image: str | Mapping[str, Any]
    format: str | None = None
    read_only: bool = False
    cache: str | None = None
    discard: bool = False
    snapshot: bool = False
    flash: int | None = None
    option: str = ""


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """One `-device NAME,PROPERTY=VALUE...`. Property values are text; the device's declarations convert and check them."""

    name: str
    properties: tuple[tuple[str, str], ...] = ()

    def get(self, key: str, default: str | None = None) -> str | None:
        """The last value given for `key`, as QEMU takes it."""
        return dict(self.properties).get(key, default)


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How processors lie, as in `-smp`: sockets of clusters of cores of threads."""

    sockets: int = 1
    clusters: int = 1
    cores: int = 1
    threads: int = 1

    def place(self, index: int) -> tuple[int, int, int, int]:
        """Where a processor is: socket, cluster, core, thread, each counted within what it is part of."""
        index, thread = divmod(index, self.threads)
        index, core = divmod(index, self.cores)
        return *divmod(index, self.clusters), core, thread


@dataclass(frozen=True, kw_only=True)
class SemihostingConfig:
    """`-semihosting-config`: the console's chardev or None, whether unprivileged code may call, the guest's command line in words."""

    chardev: str | None = None
    userspace: bool = False
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """A machine before it is built. Chardevs and drives are named by id; the objects are handed to the machine next to this description.

    memory            bytes
    accel             accelerators in order of preference
    accel_options     theirs, as (name, value): software's regions (on, off, check) says whether hot code is compiled, kvm's kernel-irqchip
                      (on, split, off) which interrupt controllers the kernel is to be
    cpu, cpu_features the model and the (feature, wanted) pairs that followed it in `-cpu MODEL,+A,-B`
    topology          how the `smp` processors lie; None: as cores of one socket
    serial            chardev ids of COM1..COM4, None where the port is not wanted
    monitors          chardev ids of the monitors
    rtc_base          "utc", "localtime" or an ISO 8601 date such as "2026-01-31T12:00:00"
    bits, order       the width and byte order of the target, of architectures that have several
    firmware          a BIOS image to run instead of loading a kernel directly (`-bios`)
    dtb               a device tree to give the kernel instead of the machine's own (`-dtb`)
    files             for the guest's fw_cfg (`-fw_cfg`): under which name, and the content or the name of a file of the host's
    strict_boot       firmware tries only disks with a bootindex (`-boot strict=on`)
    paused            begin paused (`-S`)
    semihosting       None: the guest has none of the host's files
    """

    machine: str = "pc"
    machine_options: tuple[tuple[str, str], ...] = ()
    accel: tuple[str, ...] = ("software",)
    accel_options: tuple[tuple[str, str], ...] = ()
    cpu: str = "qemu64"
    cpu_features: tuple[tuple[str, bool], ...] = ()
    bits: Literal[32, 64] = 64
    order: Literal["little", "big"] = "little"
    smp: int = 1
    topology: Topology | None = None
    memory: int = 128 * MIB
    kernel: str | None = None
    initrd: str | None = None
    append: str = ""
    dtb: str | None = None
    firmware: str | None = None
    serial: tuple[str | None, ...] = ()
    chardevs: tuple[ChardevConfig, ...] = ()
    drives: tuple[DriveConfig, ...] = ()
    monitors: tuple[str, ...] = ()
    devices: tuple[DeviceConfig, ...] = ()
    files: tuple[tuple[str, bytes | str], ...] = ()
    strict_boot: bool = False
    no_reboot: bool = False
    no_shutdown: bool = False
    paused: bool = False
    rtc_base: str = "utc"
    name: str = ""
    uuid: str | None = None
    semihosting: SemihostingConfig | None = None
