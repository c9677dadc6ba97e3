"""Alpine, booting in a terminal of its own over a store without regions, so that compile workers are busy; and what it leaves behind."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

from exuvia.codegen import store
from exuvia.codegen.engine import build_identity
from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.isa.x86.architecture import architecture

MARK = "EXUVIA_TEST_MARK"
WORKER = b"exuvia.codegen.worker"
# descriptors of two digits, which a shell's redirections do not know, for whatever the command opens
DESCRIPTORS = "import os; [os.dup(2) for _ in range(9)]; "
PROGRAM = DESCRIPTORS + "from exuvia.cli.system import x86_64; import sys; sys.argv[0] = 'exuvia-system-x86_64'; x86_64()"
AT_SHELL = r"(?m)^the shell is there"
OFF = "echo the shell is there; busybox poweroff -f"


def cache_without_regions(folder: Path) -> Path:
    """A cache folder that has the guests and the instruction forms of the user's own. Raises UserError where Alpine cannot be had."""
    cache.fetch(guest("alpine"), lambda *_: None)
    own = folder / "exuvia"
    own.mkdir(parents=True)
    (own / "guests").symlink_to(cache.root() / "guests")
    build = build_identity(architecture())
    if (store.folder() / build).is_dir():
        shutil.copytree(store.folder() / build, own / "code" / build)
    return folder


def until(holds: Callable[[], object], seconds: float) -> bool:
    """Wait for something; False when it did not come."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Boot:
    """The machine's process. `with Boot(cache) as boot:`; whatever is left at the end is killed."""

    program = PROGRAM

    def __init__(self, cache_home: Path, *options: str, first: str = "echo the shell is there; busybox sleep 1000") -> None:
        files = cache.find(guest("alpine"))
        assert files is not None
        self.mark = uuid.uuid4().hex
        self.code = cache_home / "exuvia" / "code"
        self.master, self.slave = os.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        words = ["-m", "512", "-display", "none", "-no-reboot", "-kernel", str(files["kernel"]), "-initrd", str(files["initrd"])]
        words += ["-append", guest("alpine").command_line(first)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.program, *words, *(options or ("-serial", "stdio"))],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**os.environ, "XDG_CACHE_HOME": str(cache_home), MARK: self.mark},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.hang_up()
        if self.slave >= 0:
            os.close(self.slave)

    def read(self, seconds: float) -> bool:
        """Take what the terminal shows; False when there was nothing."""
        if self.master < 0 or not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            self.seen += os.read(self.master, 65536)
        except OSError:  # all of the other side is closed
            return False
        return True

    def expect(self, pattern: str, seconds: float = 120) -> None:
        """Read until the console shows something."""
        end = time.monotonic() + seconds
        while not re.search(pattern.encode(), self.seen):
            assert self.process.poll() is None, f"it ended: {self.text()}"
            assert time.monotonic() < end, f"no {pattern}: {self.text()}"
            self.read(0.1)

    def text(self) -> str:
        """The last of what the terminal showed."""
        return self.seen.decode("utf-8", "replace")[-3000:]

    def hang_up(self) -> None:
        """Close the terminal, as a terminal emulator's window does."""
        if self.master >= 0:
            os.close(self.slave)
            os.close(self.master)
            self.master = self.slave = -1

    def left(self) -> dict[int, bytes]:
        """The processes that this boot started and that still are, by their command lines."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes()
                except OSError:  # gone, or another user's
                    continue
        return found

    def workers(self) -> list[int]:
        """The compile workers."""
        return [pid for pid, command in self.left().items() if WORKER in command and pid != self.process.pid]

    def busy_worker(self) -> int:
        """A worker that is compiling, once there is one."""
        start = time.monotonic()
        while time.monotonic() - start < 120:
            assert self.process.poll() is None, f"it ended: {self.text()}"
            for pid in self.workers():
                state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if state == "R" and int(fields[10]) > os.sysconf("SC_CLK_TCK") // 2:  # utime: past its start
                    return pid
            self.read(0.05)
        raise AssertionError(f"no worker: {self.text()}")

    def ended(self, seconds: float = 20) -> int:
        """Its exit status."""
        end = time.monotonic() + seconds
        while (status := self.process.poll()) is None:
            assert time.monotonic() < end, f"it does not end: {self.text()}"
            self.read(0.05)
        while self.read(0):
            pass
        return status

    def nothing_left(self, seconds: float = 10) -> bool:
        """No process of this boot is there, soon."""
        return until(lambda: not self.left(), seconds)

    def restored(self) -> bool:
        """The terminal is as it was before, soon: another process sees to it where the machine was killed."""
        return until(lambda: termios.tcgetattr(self.slave) == self.before, 10)

    def store_is_sound(self) -> bool:
        """Every file of the store can be read."""
        for file in self.code.rglob("*.code"):
            store.read(file)
        return True
