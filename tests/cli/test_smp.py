"""-smp: what QEMU takes is taken, with the same numbers; the rest is refused."""

import shutil
import subprocess
from pathlib import Path

import pytest

from exuvia.cli import keyval
from exuvia.cli.smp import layout
from exuvia.machines.config import Topology
from exuvia.machines.pc import Pc
from exuvia.machines.virt import Virt
from exuvia.support.errors import UserError

CASES = [
    ("2", 2, Topology(cores=2)),
    ("cores=2", 2, Topology(cores=2)),
    ("2,cores=2", 2, Topology(cores=2)),
    ("cpus=2,sockets=1,cores=2,threads=1,maxcpus=2", 2, Topology(cores=2)),
    ("maxcpus=4", 4, Topology(cores=4)),
    ("4,cores=1", 4, Topology(sockets=4)),
    ("4,sockets=4,cores=1,threads=1", 4, Topology(sockets=4)),
    ("4,sockets=2", 4, Topology(sockets=2, cores=2)),
    ("8,sockets=2,cores=2", 8, Topology(sockets=2, cores=2, threads=2)),
    ("4,threads=2", 4, Topology(cores=2, threads=2)),
    ("sockets=2,threads=2", 4, Topology(sockets=2, threads=2)),
    ("8,clusters=2,sockets=2", 8, Topology(sockets=2, clusters=2, cores=2)),
]
REFUSED = [
    ("3,cores=2", "sockets=1, clusters=1, cores=2, threads=1 make 2 processors, not 3"),
    ("3,sockets=2", "sockets=2, clusters=1, cores=1, threads=1 make 2 processors, not 3"),
    ("2,sockets=4", "sockets=4, clusters=1, cores=1, threads=1 make 4 processors, not 2"),
    ("4,maxcpus=2", "maxcpus=2 is less than cpus=4"),
    ("2,dies=2", "a virt has sockets, clusters, cores and threads, no dies: leave dies=2 out"),
    ("cores=many", "'many' is no number of cores"),
]


@pytest.mark.parametrize(("text", "processors", "topology"), CASES)
def test_layouts(text: str, processors: int, topology: Topology) -> None:
    assert layout(keyval.parse(text, "cpus"), "virt", Virt.levels) == (processors, topology)


@pytest.mark.parametrize(("text", "message"), [*REFUSED, ("2,maxcpus=4", "write -smp 2"), ("0", "'0' is no number of processors")])
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        layout(keyval.parse(text, "cpus"), "virt", Virt.levels)


def test_levels_are_the_machines() -> None:
    assert layout([("cpus", "4"), ("dies", "2")], "pc", Pc.levels) == (4, Topology(cores=2))
    with pytest.raises(UserError, match="a pc has sockets, dies, cores and threads, no clusters"):
        layout([("cpus", "4"), ("clusters", "2")], "pc", Pc.levels)


def test_places() -> None:
    topology = Topology(sockets=2, clusters=2, cores=3, threads=2)
    places = [topology.place(number) for number in range(24)]
    assert places[:3] == [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)]
    assert places[6] == (0, 1, 0, 0)
    assert places[23] == (1, 1, 2, 1)
    assert places == sorted(set(places))


def test_qemu_refuses_the_same(tmp_path: Path) -> None:
    """Each run ends at once: what it takes it writes a tree for. To a file of the test's, as QEMU replaces what has that name."""
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("qemu-system-aarch64 is not installed")
    for text, _ in REFUSED:
        command = ["qemu-system-aarch64", "-M", f"virt,dumpdtb={tmp_path / 'tree'}", "-display", "none", "-nodefaults", "-smp", text]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1, text
    assert subprocess.run([*command[:-1], "2,cores=2"], capture_output=True, timeout=60).returncode == 0
