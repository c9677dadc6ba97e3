"""QEMU's options and devices that are not here yet: what is missing, and what does instead."""

from fnmatch import fnmatchcase

from exuvia.support.errors import UserError

NETWORK, SCREEN, SOUND, USB = "there is no network yet", "there is no screen yet", "there is no sound yet", "there is no USB controller yet"
CONTROLLER = "there are no IDE, SCSI and NVMe controllers yet: write -device virtio-blk-pci,drive=ID"
FLOPPY, TPM, WATCHDOG = "there are no floppy drives", "there is no TPM", "there is no watchdog"
CDROM = "there are no CD-ROM drives yet: write -drive file=FILE,if=virtio,readonly=on"
DEBUGGER, SAVED = "there is no port for a debugger yet", "a machine's state cannot be saved yet"
MEMORY = "the guest's memory is a memfd, whose pages the host gives as they are used"
FOLDER = "folders are shared only as disks: write -drive file=fat:FOLDER,if=virtio,readonly=on"

OPTIONS = {
    "netdev bt": NETWORK,
    "k full-screen spice sdl curses alt-grab ctrl-grab no-frame show-cursor g": SCREEN,
    "soundhw audio-help audio": SOUND,
    "usb usbdevice": USB,
    "cdrom": CDROM,
    "hdb hdc hdd sd mtdblock": CONTROLLER,
    "fda fdb": FLOPPY,
    "tpmdev": TPM,
    "watchdog watchdog-action": WATCHDOG,
    "s": DEBUGGER,
    "loadvm incoming only-migratable": SAVED,
    "mem-path mem-prealloc": MEMORY,
    "virtfs fsdev": FOLDER,
    "icount": "time is the host's, and instructions are not counted",
    "trace plugin": "-d ITEMS logs, and 'exuvia profile' measures",
    "smbios": "SMBIOS tables are the machine's own, and -uuid sets what is in them",
    "acpitable option-rom": "tables and ROMs are the machine's own",
    "readconfig writeconfig": "descriptions of machines are not kept in files",
    "runas chroot run-with": "start it as the user, and in the folder, that it shall have",
}
"""Options, and what is said of them."""

DEVICES = {
    "virtio-net* e1000* rtl8139 ne2k* pcnet vmxnet3 i8255* i82562 i82801 tulip vhost-user-net*": NETWORK,
    "VGA secondary-vga virtio-gpu* virtio-vga* qxl* cirrus-vga bochs-display vmware-svga ramfb": SCREEN,
    "intel-hda ich9-intel-hda hda-* AC97 ES1370 sb16 virtio-sound*": SOUND,
    "usb-* qemu-xhci nec-usb-xhci piix*-usb-uhci ich9-usb-* pci-ohci virtio-keyboard* virtio-mouse* virtio-tablet*": USB,
    "ide-* piix*-ide scsi-* virtio-scsi* ahci ich9-ahci lsi* megasas* mptsas* nvme* sd-card sdhci-pci": CONTROLLER,
    "isa-fdc floppy": FLOPPY,
    "tpm-*": TPM,
    "i6300esb ib700": WATCHDOG,
    "virtio-9p* virtio-fs* vhost-user-fs*": FOLDER,
    "pcie-root-port ioh3420 pci-bridge pcie-pci-bridge pxb*": "there are no bridges: PCI has one bus with 32 slots",
    "virtio-rng* virtio-balloon* virtio-serial* virtconsole virtserialport virtio-crypto*": "of virtio there are only disks yet",
    "vfio-*": "the host's devices are not passed on",
}
"""Patterns of devices' names, and what is said of them."""


def option(name: str) -> None:
    """Raises UserError for an option of QEMU's that is not here."""
    for names, reason in OPTIONS.items():
        if name in names.split():
            raise UserError(f"-{name}: {reason}")


def device(name: str) -> None:
    """Raises UserError for a device of QEMU's that is not here."""
    for patterns, reason in DEVICES.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
            raise UserError(f"-device {name}: {reason}")
