"""-device and -global: QEMU's other names."""

import pytest

from exuvia.cli.system import parse
from exuvia.machines.config import DeviceConfig, MachineConfig
from exuvia.support.errors import UserError

BLK = "-blockdev null-co,node-name=a -device"


def config(line: str) -> MachineConfig:
    return parse("test", "x86_64", line.split()).config()


@pytest.mark.parametrize(
    ("line", "name", "properties"),
    [
        (f"{BLK} virtio-blk,drive=a", "virtio-blk-pci", {"drive": "a"}),
        (
            f"{BLK} virtio-blk-pci-non-transitional,drive=a,disable_legacy=on",
            "virtio-blk-pci",
            {"drive": "a", "disable_legacy": "on"},
        ),
        (
            f'{BLK} {{"id":"d","drive":"a","driver":"virtio-blk-pci","bootindex":1,"addr":"0x5","scsi":false}}',
            "virtio-blk-pci",
            {"id": "d", "drive": "a", "bootindex": "1", "addr": "0x5", "scsi": "off"},
        ),
        (f"-object iothread,id=t {BLK} virtio-blk,drive=a,iothread=t", "virtio-blk-pci", {"drive": "a", "iothread": "t"}),
        ("-device isa-serial,index=1,id=s", "isa-serial", {"iobase": "0x2f8", "irq": "3", "id": "s"}),
        (f"-global virtio-blk.serial=x {BLK} virtio-blk,drive=a", "virtio-blk-pci", {"serial": "x", "drive": "a"}),
        (
            f"-global driver=virtio-blk-pci,property=serial,value=x {BLK} virtio-blk,drive=a,serial=y",
            "virtio-blk-pci",
            {"drive": "a", "serial": "y"},
        ),
    ],
)
def test_other_names(line: str, name: str, properties: dict[str, str]) -> None:
    (device,) = config(line).devices
    assert (device.name, dict(device.properties)) == (name, properties)


@pytest.mark.parametrize(
    "text", ["PIIX4_PM.disable_s3=1", "kvm-pit.lost_tick_policy=delay", "virtio-mmio.force-legacy=false", "isa-debugcon.readback=1"]
)
def test_defaults_that_change_nothing(text: str) -> None:
    assert config(f"-global {text}").devices == ()
    assert config(f"-global {text} -device isa-serial").devices == (DeviceConfig(name="isa-serial"),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{BLK} virtio-blk-pci-transitional,drive=a", "there is no legacy interface of virtio, write virtio-blk-pci"),
        (f"{BLK} virtio-blk,drive=a,iothread=t", "there is no object 't' .-object iothread,id=t makes it."),
        ("-device isa-serial,index=4", "index is 0 to 3, not '4'"),
        ("-device {", "-device {: this is not JSON"),
        ('-device {"id":"a"}', "it begins with driver"),
        ('-device {"driver":"isa-serial","irq":[4]}', "irq is a text, a number, true or false"),
        ("-device " + '{"driver":' + "[" * 100_000, "this is not JSON"),
        ("-global PIIX4_PM.disable_s3=0", "PIIX4_PM.disable_s3 is 1 or on or true here, leave it out"),
        ("-global virtio-blk.serail=x", "unknown property of virtio-blk-pci 'serail' .did you mean serial"),
        ("-global nonesuch.x=1", "-global nonesuch.x=1: unknown device 'nonesuch'"),
        ("-global rtc", "unknown property of -global 'rtc'"),
        ("-global hpet.x=1", "hpet is part of the machine and has nothing to set"),
        ("-global driver=isa-serial", "it is DEVICE.PROPERTY=VALUE"),
    ],
)
def test_what_is_refused(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(line)
