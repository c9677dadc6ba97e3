"""-m, memory objects and -numa: sizes as QEMU takes them, and nothing that is not there."""

import pytest

from exuvia.cli.memory import size
from exuvia.cli.system import parse
from exuvia.machines.config import MachineConfig
from exuvia.support.errors import UserError

MIB = 1 << 20


def config(line: str) -> MachineConfig:
    return parse("test", "x86_64", line.split()).config()


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("512", 512),
        ("size=512M", 512),
        ("size=524288k", 512),
        ("1G,maxmem=1G,slots=0", 1024),
        ("512,maxmem=536870912", 512),
        ("slots=0", 7),
    ],
)
def test_sizes(text: str, mib: int) -> None:
    assert size(text, 7 * MIB) == mib * MIB


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("512,slots=2,maxmem=1G", "memory that is plugged in later, which cannot be done: write -m 512M"),
        ("512,maxmem=1G", "memory that is plugged in later"),
        ("512,slots=2", "memory that is plugged in later"),
        ("512,maxmem=256M", "maxmem=256M is less than the memory that there is .512M."),
        ("512,maxmem=512", "maxmem=512 is less than"),  # bytes, as in QEMU
        ("512,slots=x", "slots is a number, not 'x'"),
        ("512,maxmem=x", "-m: 'x' is no size"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        size(text, 0)


@pytest.mark.parametrize(
    "line",
    [
        '-m 512 -M pc,memory-backend=r -object {"qom-type":"memory-backend-ram","id":"r","size":536870912}',
        "-m 512 -object memory-backend-memfd,id=r,size=512M,share=on -machine memory-backend=r",
        "-m 512 -smp 2 -object memory-backend-ram,id=r,size=512M -numa node,nodeid=0,cpus=0-1,memdev=r",
        "-m 512 -numa node,mem=512",
        "-m 512 -object memory-backend-ram,id=other,size=1G",
    ],
)
def test_objects_that_are_the_memory(line: str) -> None:
    assert config(line).memory == 512 * MIB


def test_memory_that_is_in_no_core_dump() -> None:
    assert config("-m 512 -object memory-backend-ram,id=r,size=512M,dump=off").machine_options == (("dump-guest-core", "off"),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-M pc,memory-backend=r", "there is no object 'r' .-object memory-backend-ram,id=r,size=128M makes it."),
        ("-M pc,memory-backend=r -object memory-backend-ram,id=r,size=64M", "'r' has 64M, and the machine 128M"),
        ("-object memory-backend-ram,size=64M", "it needs id=ID and size=SIZE"),
        ("-object memory-backend-ram,id=r,size=64M,prealloc=on", "prealloc is off here, not on"),
        ("-object memory-backend-ram,id=r,size=lots", "'lots' is no size"),
        ("-object memory-backend-file,id=r,size=64M,mem-path=x", "the guest's memory is a memfd: write memory-backend-memfd"),
        ("-numa node -numa node", "there is one node with all processors and all memory, leave -numa out"),
        ("-numa node,nodeid=1", "there is one node with all processors and all memory, nodeid=0"),
        ("-numa node,mem=64", "with all processors and all memory, mem=128M"),
        ("-numa node,cpus=0-3", "there is no processor 3, the last one is 0"),
        ("-numa node,cpus=all", "cpus is FIRST-LAST"),
        ("-numa node,memdev=r", "there is no object 'r'"),
        ("-numa dist,src=0,dst=1,val=20", "so it is node and no more"),
    ],
)
def test_other_memory_is_refused(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(line)
