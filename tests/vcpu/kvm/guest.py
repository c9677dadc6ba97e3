"""A small guest in a machine in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exuvia.machines.config import DeviceConfig, MachineConfig
from exuvia.machines.pc import Pc
from tests.guests import console

LONGEST = 100.0  # seconds of a guest
PROGRAMS = Path(__file__).parent / "programs"
PLAIN = (("pni", False),)  # qemu64 without what the smallest KVM has not


class Console:
    """A chardev that keeps what was written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


class Guest:
    """`machine` runs a kernel; `text` is what it printed."""

    def __init__(self, kernel: Path, *, accel: str = "kvm", irqchip: str = "off", smp: int = 1, cpu: str = "qemu64") -> None:
        self.console = Console()
        ports = {"isa-debug-exit": (("iobase", "0xf4"), ("iosize", "4")), "isa-debugcon": (("chardev", "console"),)}
        config = MachineConfig(
            accel=(accel,),
            accel_options=(("kernel-irqchip", irqchip),),
            cpu=cpu,
            cpu_features=PLAIN if cpu == "qemu64" else (),
            smp=smp,
            memory=64 << 20,
            kernel=str(kernel),
            no_reboot=True,
            devices=tuple(DeviceConfig(name=name, properties=properties) for name, properties in ports.items()),
        )
        self.machine = Pc(config, {"console": self.console})
        self.over = threading.Event()

    @property
    def text(self) -> str:
        return self.console.data.decode()

    @property
    def vm(self) -> Any:
        """KVM's part."""
        return self.machine.accelerated["kvm"]

    def run(self, beside: Callable[[], object] | None = None) -> int:
        """Until the guest ends; `beside` runs in another thread meanwhile."""
        limit = threading.Timer(LONGEST, lambda: self.machine.exit(124))
        threads = [limit, *([threading.Thread(target=beside)] if beside else [])]
        for thread in threads:
            thread.start()
        try:
            return self.machine.run()
        finally:
            self.over.set()
            limit.cancel()
            for thread in threads:
                thread.join()


def program(name: str, folder: Path, **settings: Any) -> Guest:
    """A guest with one of the programs of tests/guests."""
    return Guest(console.assemble(name, folder), **settings)
