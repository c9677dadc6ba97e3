"""What the loaders leave, judged by QEMU's processor: small kernels that look at what they were given, and memtest86+."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exuvia.boot.layout import MIB
from exuvia.machines.config import MachineConfig
from tests.boot.images import bzimage, elf, multiboot_header, note, saved
from tests.boot.on_qemu import EXIT_PORT, run

pytestmark = [
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"),
    pytest.mark.timeout(60),
]

# sete al; movzx eax, al; then 48 FF C0, which is INC RAX in 64-bit mode and DEC EAX, INC EAX in 32-bit mode
VERDICT = bytes.fromhex("0f94c0 0fb6c0 48ffc0") + bytes([0xE6, EXIT_PORT, 0xF4, 0xEB, 0xFD])
RIGHT_32, RIGHT_64 = 1 << 1 | 1, 2 << 1 | 1


@pytest.mark.parametrize(("bits", "status"), [(64, RIGHT_64), (32, RIGHT_32)])
def test_linux(tmp_path: Path, bits: int, status: int) -> None:
    code = bytes.fromhex("8b8602020000 3d48647253") + VERDICT  # mov eax, [rsi+0x202]; cmp eax, "HdrS"
    image = bzimage(code.ljust(0x200, b"\x90") + code)
    kernel = saved(tmp_path, "k", image)
    assert run(MachineConfig(kernel=kernel, memory=64 * MIB, bits=64 if bits == 64 else 32), tmp_path)[0] == status


def test_multiboot(tmp_path: Path) -> None:
    code = bytes.fromhex("3d02b0ad2b") + VERDICT  # cmp eax, 0x2BADB002
    kernel = saved(tmp_path, "k", elf(32, [(MIB, MIB, multiboot_header(0) + code, 4096)], MIB + 12))
    assert run(MachineConfig(kernel=kernel, memory=64 * MIB), tmp_path)[0] == RIGHT_32


def test_pvh(tmp_path: Path) -> None:
    code = bytes.fromhex("8b03 3d78c56e33") + VERDICT  # mov eax, [ebx]; cmp eax, 0x336EC578
    image = elf(64, [(MIB, MIB, code, 4096)], 0, machine=62, notes=note(b"Xen", 18, MIB.to_bytes(4, "little")))
    assert run(MachineConfig(kernel=saved(tmp_path, "k", image), memory=64 * MIB), tmp_path)[0] == RIGHT_32


@pytest.mark.soak
@pytest.mark.parametrize("which", ["x64", "ia32"])
def test_memtest86(tmp_path: Path, which: str) -> None:
    kernel = f"/boot/memtest86+{which}.bin"
    if not Path(kernel).exists():
        pytest.skip("Debian's memtest86+ is not installed")
    config = MachineConfig(kernel=kernel, memory=16 * MIB, append="console=ttyS0,115200")
    assert b"Testing" in run(config, tmp_path, until=b"Testing")[1]
