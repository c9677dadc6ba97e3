"""What QEMU has and is not here: the reason is said, and nothing that has come since is still called absent."""

import pytest

from exuvia.cli import absent
from exuvia.cli.options import OPTIONS
from exuvia.cli.system import parse
from exuvia.devices.device import devices
from exuvia.support.errors import UserError


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-netdev user,id=n", "-netdev: there is no network yet"),
        ("--cdrom x.iso", "-cdrom: there are no CD-ROM drives yet: write -drive file=FILE,if=virtio,readonly=on"),
        ("-s", "-s: there is no port for a debugger yet"),
        ("-device virtio-net-pci,netdev=n", "-device virtio-net-pci: there is no network yet"),
        (
            "-device ide-hd,drive=d",
            "-device ide-hd: there are no IDE, SCSI and NVMe controllers yet: write -device virtio-blk-pci,drive=ID",
        ),
        ("-device VGA", "-device VGA: there is no screen yet"),
        ("-device usb-tablet", "-device usb-tablet: there is no USB controller yet"),
    ],
)
def test_the_reason_is_said(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse("test", "x86_64", line.split())
    assert str(caught.value) == message


def test_it_is_really_absent() -> None:
    assert not {name for names in absent.OPTIONS for name in names.split()} & set(OPTIONS)
    for name in devices:
        absent.device(name)
