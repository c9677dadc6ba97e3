"""What a kernel finds of the Malta board's monitor: its boot ROM (YAMON Reference Manual, MD00008, and User's Manual, MD00005).

The ROM sets the board up as the monitor does, enters a kernel, and answers through the monitor's function vectors. The encodings are those
of MIPS Architecture For Programmers, volume II.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

SIZE = 4 << 20
BASE, CACHED = 0xBFC00000, 0x9FC00000
REVISION = 0x10  # the board's revision register lies over this word of the ROM:
CORE_LV = 1 << 10 | 2 << 4  # core board LV, which has a GT-64120; revision 2 of the board
VECTORS, BEGIN, SERVICES = 0x500, 0x580, 0x800
EXCEPTIONS = (0x200, 0x280, 0x300, 0x380, 0x400, 0x480)  # while Status.BEV is set; the last is EJTAG's
PRINT_COUNT, EXIT, FLUSH_CACHE, PRINT, GETCHAR = 0x504, 0x520, 0x52C, 0x534, 0x550
REGISTRATIONS = range(0x538, 0x550, 4)  # of interrupt and exception handlers
SYSCON_READ = 0x554

ZERO, V0, A0, A1, A2, A3, T0, T1, T2, K0, K1, SP, RA = 0, 2, 4, 5, 6, 7, 8, 9, 10, 26, 27, 29, 31
COM1 = 0xB80003F8
TRANSMIT_READY = 0x20

# GT-64120 registers (address, value): first they move to 0x1be00000, then come the windows to PCI, as the monitor lays them out
GT_RESET, GT = 0xB4000000, 0xBBE00000
BRIDGE = (
    (GT_RESET + 0x068, 0x0DF),
    (GT + 0x048, 0x0C0),  # I/O: 2 MiB at 0x18000000, which are PCI's from 0 on
    (GT + 0x050, 0x040),
    (GT + 0x0F0, 0x000),
    (GT + 0x058, 0x080),  # memory: 128 MiB at 0x10000000
    (GT + 0x060, 0x03F),
    (GT + 0x080, 0x0C1),  # memory: 60 MiB at 0x18200000
    (GT + 0x088, 0x05E),
    (GT + 0xCF8, 0x80005060),  # PIIX4, device 10: the routes of PCI's interrupts, and from the next register
)
CONFIGURATION_DATA, ROUTES = GT + 0xCFC, 0x0B0B0A0A  # A and B are ISA's 10, C and D its 11
ELCR, LEVEL = 0xB80004D1, 0x0C  # both are level-triggered


def _immediate(operation: int, rs: int, rt: int, immediate: int) -> int:
    return operation << 26 | rs << 21 | rt << 16 | immediate & 0xFFFF


def _load(register: int, value: int) -> list[int]:
    """lui, ori."""
    return [_immediate(0x0F, 0, register, value >> 16), _immediate(0x0D, register, register, value)]


def _store(operation: int, address: int, value: int) -> list[int]:
    """A store of `value`: sb 0x28, sw 0x2b."""
    return [*_load(K0, value), *_load(K1, address), _immediate(operation, K1, K0, 0)]


def _swap(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "little"), "big")


NOP = 0
RETURN = [RA << 21 | 0x08, NOP]  # jr ra
STAY = [_immediate(0x04, 0, 0, -1), NOP]  # b .


def _send(loop: int) -> list[int]:
    """Wait until COM1 takes a character, send t2, go on `loop` words from the first of these."""
    return [
        _immediate(0x24, T0, T1, 5),  # lbu t1, 5(t0)
        _immediate(0x0C, T1, T1, TRANSMIT_READY),  # andi
        _immediate(0x04, T1, 0, -3),  # beq t1, zero, the lbu
        NOP,
        _immediate(0x04, 0, 0, loop - 5),  # b
        _immediate(0x28, T0, T2, 0),  # sb t2, 0(t0)
    ]


# print(port, text) and print_count(port, text, count)
PRINT_CODE = [
    *_load(T0, COM1),
    _immediate(0x24, A1, T2, 0),  # lbu t2, 0(a1)
    _immediate(0x04, T2, 0, 7),  # beq t2, zero, the jr
    _immediate(0x09, A1, A1, 1),  # addiu a1, a1, 1
    *_send(-3),
    *RETURN,
]
PRINT_COUNT_CODE = [
    *_load(T0, COM1),
    _immediate(0x04, A2, 0, 9),  # beq a2, zero, the jr
    _immediate(0x24, A1, T2, 0),  # lbu t2, 0(a1)
    _immediate(0x09, A1, A1, 1),  # addiu a1, a1, 1
    _immediate(0x09, A2, A2, -1),  # addiu a2, a2, -1
    *_send(-4),
    *RETURN,
]
NOTHING_CODE = [*RETURN[:1], _immediate(0x09, 0, V0, 0)]  # returns 0: there is no character, caches are coherent
REFUSAL_CODE = [*RETURN[:1], _immediate(0x09, 0, V0, -1)]


def rom(entry: int, registers: Sequence[tuple[int, int]], *, big_endian: bool) -> bytes:
    """The ROM's content, from 0xbfc00000 on: it enters a kernel at `entry` with these (register, value)."""
    words = {0: _jump(BASE + BEGIN), **dict.fromkeys(EXCEPTIONS, STAY)}
    # the controller's registers are little-endian for either processor, and so is what it carries to PCI unless told otherwise
    turned = _swap if big_endian else int
    begin = [word for address, value in BRIDGE for word in _store(0x2B, address, turned(value))]
    begin += [*_store(0x2B, CONFIGURATION_DATA, ROUTES), *_store(0x28, ELCR, LEVEL)]
    begin += [word for register, value in registers for word in _load(register, value)]
    words[BEGIN] = [*begin, *_jump(entry)]

    at = SERVICES
    vectors = {VECTORS: BASE + BEGIN, EXIT: BASE + BEGIN}
    for code, entries in (
        (PRINT_CODE, (PRINT,)),
        (PRINT_COUNT_CODE, (PRINT_COUNT,)),
        (NOTHING_CODE, (FLUSH_CACHE, GETCHAR)),
        (REFUSAL_CODE, (*REGISTRATIONS, SYSCON_READ)),
    ):
        words[at] = code
        vectors |= dict.fromkeys(entries, CACHED + at)
        at += 4 * len(code)
    content = bytearray(at)
    order = ">" if big_endian else "<"
    for address, code in (words | {vector: [target] for vector, target in vectors.items()}).items():
        struct.pack_into(f"{order}{len(code)}I", content, address, *code)
    return with_revision(bytes(content), big_endian=big_endian)


def with_revision(content: bytes, *, big_endian: bool) -> bytes:
    """ROM content as it shows at 0x1fc00000: the board's revision register lies over one of its words."""
    return content[:REVISION].ljust(REVISION, b"\0") + CORE_LV.to_bytes(4, "big" if big_endian else "little") + content[REVISION + 4 :]


def _jump(address: int) -> list[int]:
    return [*_load(K0, address), K0 << 21 | 0x08, NOP]  # jr k0


def firmware(image: bytes, *, big_endian: bool) -> bytes:
    """A boot flash's content as the processor sees it: images are big-endian words, which the board turns for a little-endian one."""
    image += bytes(-len(image) % 4)
    count = len(image) // 4
    return image if big_endian else struct.pack(f"<{count}I", *struct.unpack(f">{count}I", image))
