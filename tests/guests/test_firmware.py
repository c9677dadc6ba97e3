"""Debian's U-Boot for malta comes to its prompt, from the ROM (package u-boot-qemu, where it is installed)."""

from __future__ import annotations

import array
import subprocess
import sys
import threading
from pathlib import Path

import pytest

U_BOOT = Path("/usr/lib/u-boot/maltael/u-boot.bin")
OPTIONS = "-M malta -m 256 -display none -monitor none -serial stdio"


@pytest.mark.skipif(not U_BOOT.exists(), reason="u-boot-qemu is not installed")
@pytest.mark.soak
@pytest.mark.timeout(200)
def test_u_boot_for_malta(tmp_path: Path) -> None:
    content = U_BOOT.read_bytes()
    words = array.array("I", content + bytes(-len(content) % 4))
    words.byteswap()
    (tmp_path / "u-boot").write_bytes(words.tobytes())
    program = [str(Path(sys.executable).with_name("exuvia-system-mipsel")), *OPTIONS.split(), "-bios", str(tmp_path / "u-boot")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None
        watch = threading.Timer(150, process.kill)
        watch.start()
        seen = b""
        while b"maltael # " not in seen and (new := process.stdout.read(1)):
            seen += new
        process.stdin.write(b"pci\n")
        while b"0x7113" not in seen and (new := process.stdout.read(1)):
            seen += new
        watch.cancel()
        process.kill()
    assert b"Board: MIPS Malta CoreLV" in seen and b"0x7113" in seen, seen.decode("ascii", "replace")
