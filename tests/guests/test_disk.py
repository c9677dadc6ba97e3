"""Alpine from its disk: to a login over virtio-blk, a lot written, powered off, or killed; QEMU finds the image whole and boots it too."""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError

PROGRAM = "from exuvia.cli.system import x86_64; import sys; sys.argv[0] = 'exuvia-system-x86_64'; x86_64()"
# its disk has no login on the serial line, and no password that we know
FIRST = (
    "modprobe -a virtio_blk ext4; mkdir /new; mount -t ext4 /dev/vda /new; sed -i 's/^root:[^:]*:/root::/' /new/etc/shadow; "
    "grep -q ^ttyS0 /new/etc/inittab || echo ttyS0::respawn:/sbin/getty -L 0 ttyS0 vt100 >> /new/etc/inittab; "
    "echo ttyS0 >> /new/etc/securetty; umount /proc /sys; exec switch_root /new /sbin/init"
)
LONGEST = 300.0  # seconds of one step, on a busy host


class Guest:
    """An emulator with Alpine's kernel and a disk; its console in pipes."""

    def __init__(self, program: list[str], disk: Path) -> None:
        files = cache.find(guest("alpine"))
        assert files is not None
        words = ["-m", "512", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none", "-kernel", str(files["kernel"])]
        words += ["-initrd", str(files["initrd"]), "-append", guest("alpine").command_line(FIRST)]
        words += ["-drive", f"file={disk},format=qcow2,if=virtio"]
        self.process = subprocess.Popen([*program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.seen = b""

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Read until the console shows something; what came before it is forgotten."""
        assert self.process.stdout is not None
        end = time.monotonic() + LONGEST
        while not (found := re.search(pattern.encode(), self.seen)):
            assert time.monotonic() < end, f"no {pattern}: {self.seen[-3000:].decode('utf-8', 'replace')}"
            if select.select([self.process.stdout], [], [], 1)[0]:
                new = os.read(self.process.stdout.fileno(), 65536)
                assert new, f"it ended: {self.seen[-3000:].decode('utf-8', 'replace')}"
                self.seen += new
        self.seen = self.seen[found.end() :]
        return found

    def type(self, line: str) -> None:
        """A line on its keyboard."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def log_in(self) -> None:
        """To root's shell."""
        self.expect(r"login: ")
        self.type("root")
        self.expect(r":~# ")

    def end(self) -> None:
        """Power off; the machine must end by itself."""
        self.type("poweroff")
        assert self.process.stdout is not None
        while os.read(self.process.stdout.fileno(), 65536):
            pass
        assert self.process.wait(LONGEST) == 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None or shutil.which("qemu-img") is None, reason="QEMU is not installed")
def test_alpine_from_its_disk(tmp_path: Path) -> None:
    try:
        cache.fetch(guest("alpine"), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    files = cache.find(guest("alpine"))
    assert files is not None
    disk = tmp_path / "disk.qcow2"
    shutil.copyfile(files["disk"], disk)
    expected = hashlib.sha256()
    for block in range(400):  # 50 MiB that no two sectors share
        expected.update(b"".join(f"{block * 4096 + line:031d}\n".encode() for line in range(4096)))
    with Guest([sys.executable, "-c", PROGRAM], disk) as ours:
        ours.log_in()
        ours.type(
            "mount | grep -c ^/dev/vda.on./.; awk 'BEGIN { for (i = 0; i < 1638400; i++) printf \"%031d\\n\", i }' > big; sync; echo end$?"
        )
        ours.expect(r"(?m)^1\r?$")
        ours.expect(r"(?m)^end0")
        ours.type("echo 3 > /proc/sys/vm/drop_caches; sha256sum big")
        assert ours.expect(r"(?m)^([0-9a-f]{64})  big")[1].decode() == expected.hexdigest(), "read back by the guest itself"
        ours.end()
    checked = subprocess.run(["qemu-img", "check", str(disk)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "No errors were found" in checked.stdout, checked.stdout + checked.stderr
    with Guest([sys.executable, "-c", PROGRAM], disk) as killed:
        killed.log_in()
        killed.type("echo flushed > kept; sync; echo end$?; while echo more; do :; done >> lost")
        killed.expect(r"(?m)^end0")
        time.sleep(1)
        killed.process.kill()
    checked = subprocess.run(["qemu-img", "check", str(disk)], capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 3), checked.stdout + checked.stderr  # 3: room was lost, no data
    with Guest(["qemu-system-x86_64", "-accel", "tcg"], disk) as theirs:
        theirs.log_in()
        theirs.type("cat kept; sha256sum big; dmesg | grep -ci ext4.*error")
        theirs.expect(r"(?m)^flushed\r?$")
        assert theirs.expect(r"(?m)^([0-9a-f]{64})  big")[1].decode() == expected.hexdigest()
        theirs.expect(r"(?m)^0\r?$")
        theirs.end()
