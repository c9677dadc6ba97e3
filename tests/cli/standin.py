"""A machine for tests of the front: `qemu-system-x86_64` is the computer, our backends and commands are the rest."""

import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from exuvia.backends.chardev.chardev import Chardev
from exuvia.machines.config import MachineConfig


class QemuMachine:
    """What `launch` needs of a machine; QEMU's serial port is the first one of `config.serial`."""

    name = "pc"
    description = "QEMU"

    def __init__(self, config: MachineConfig, chardevs: Mapping[str, Any], drives: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.status = "running"
        self.vcpus: list[Any] = []
        self.devices: dict[str, Any] = {}
        assert config.serial[0] is not None
        self.serial: Chardev = chardevs[config.serial[0]]
        self._work: deque[Callable[[], object]] = deque()
        self._wake = threading.Semaphore(0)
        self._status: int | None = None

    def post(self, work: Callable[[], object]) -> None:
        self._work.append(work)
        self._wake.release()

    def exit(self, status: int) -> None:
        if self._status is None:
            self._status = status
        self._wake.release()

    def run(self) -> int:
        config = self.config
        assert config.kernel
        command = ["qemu-system-x86_64", "-m", str(config.memory >> 20), "-display", "none", "-monitor", "none", "-serial", "stdio"]
        command += ["-nodefaults", "-no-reboot", "-kernel", config.kernel, "-append", config.append]
        command += ["-initrd", config.initrd] if config.initrd else []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as qemu:
            assert qemu.stdin is not None
            assert qemu.stdout is not None
            keys, screen = qemu.stdin.fileno(), qemu.stdout.fileno()
            self.serial.connect(lambda data: os.write(keys, data))

            def read() -> None:
                while data := os.read(screen, 4096):
                    self.post(lambda data=data: self.serial.write(data))  # type: ignore[misc]
                self.post(lambda: self.exit(0))

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            while self._status is None:
                self._wake.acquire()
                while self._work and self._status is None:
                    self._work.popleft()()
            qemu.terminate()
            reader.join()
        return self._status
