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

from benchmarks.measure import ALIKE
from exuvia.boot import arm64
from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError

PROGRAM = "from exuvia.cli.system import run; import sys; sys.exit(run('test', '{}', sys.argv[1:]))"
# its disk has no login on the serial line, and no password that we know
FIRST = (
    "modprobe -a virtio_pci virtio_mmio virtio_blk ext4; mkdir /new; mount -t ext4 /dev/vda /new; "
    "sed -i 's/^root:[^:]*:/root::/' /new/etc/shadow; "
    "grep -q ^TTY /new/etc/inittab || echo TTY::respawn:/sbin/getty -L 0 TTY vt100 >> /new/etc/inittab; "
    "echo TTY >> /new/etc/securetty; umount /proc /sys; exec switch_root /new /sbin/init"
)
LONGEST = 300.0  # seconds of one step, on a busy host


class Guest:
    """An emulator with Alpine's kernel and a disk; its console in pipes."""

    def __init__(self, program: list[str], name: str, device: str, disk: Path) -> None:
        files, chosen = cache.find(guest(name)), guest(name)
        assert files is not None
        kernel, tty = files["kernel"], "ttyAMA0" if chosen.target == "aarch64" else "ttyS0"
        if chosen.target == "aarch64":  # not every QEMU unpacks a kernel for EFI
            kernel = disk.with_suffix(".kernel")
            kernel.write_bytes(arm64.unpack("", files["kernel"].read_bytes(), 1 << 28))
        words = ["-m", "512", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none", "-kernel", str(kernel)]
        words += ["-initrd", str(files["initrd"]), "-append", chosen.command_line(FIRST.replace("TTY", tty))]
        words += ["-drive", f"file={disk},format=qcow2,if=none,id=disk", "-device", f"{device},drive=disk"]
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
@pytest.mark.parametrize(
    ("name", "device"), [("alpine", "virtio-blk-pci"), ("alpine-arm64", "virtio-blk-pci"), ("alpine-arm64", "virtio-blk-device")]
)
def test_alpine_from_its_disk(name: str, device: str, tmp_path: Path) -> None:
    target = guest(name).target
    if shutil.which(f"qemu-system-{target}") is None or shutil.which("qemu-img") is None:
        pytest.skip("QEMU is not installed")
    own, peer = [sys.executable, "-c", PROGRAM.format(target)], [f"qemu-system-{target}", *ALIKE.get(target, []), "-accel", "tcg"]
    try:
        cache.fetch(guest(name), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    files = cache.find(guest(name))
    assert files is not None
    disk = tmp_path / "disk.qcow2"
    shutil.copyfile(files["disk"], disk)
    expected = hashlib.sha256()
    for block in range(400):  # 200 MiB that no two sectors share
        expected.update(b"".join(f"{block * 1024 + line:0511d}\n".encode() for line in range(1024)))
    with Guest(own, name, device, disk) as ours:
        ours.log_in()
        ours.type(
            "mount | grep -c ^/dev/vda.on./.; awk 'BEGIN { for (i = 0; i < 409600; i++) printf \"%0511d\\n\", i }' > big; sync; echo end$?"
        )
        ours.expect(r"(?m)^1\r?$")
        ours.expect(r"(?m)^end0")
        ours.type("echo 3 > /proc/sys/vm/drop_caches; sha256sum big")
        assert ours.expect(r"(?m)^([0-9a-f]{64})  big")[1].decode() == expected.hexdigest(), "read back by the guest itself"
        ours.end()
    checked = subprocess.run(["qemu-img", "check", str(disk)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "No errors were found" in checked.stdout, checked.stdout + checked.stderr
    with Guest(own, name, device, disk) as killed:
        killed.log_in()
        killed.type("echo flushed > kept; sync; echo end$?; while echo more; do :; done >> lost")
        killed.expect(r"(?m)^end0")
        time.sleep(1)
        killed.process.kill()
    checked = subprocess.run(["qemu-img", "check", str(disk)], capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 3), checked.stdout + checked.stderr  # 3: room was lost, no data
    with Guest(peer, name, device, disk) as theirs:
        theirs.log_in()
        theirs.type("cat kept; sha256sum big; dmesg | grep -ci ext4.*error")
        theirs.expect(r"(?m)^flushed\r?$")
        assert theirs.expect(r"(?m)^([0-9a-f]{64})  big")[1].decode() == expected.hexdigest()
        theirs.expect(r"(?m)^0\r?$")
        theirs.end()
