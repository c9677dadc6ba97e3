"""A small assembler for ACPI Machine Language (ACPI 6.5, chapter 20) and resource descriptors (chapter 6.4). Each function gives bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Term = bytes | int | str

ARG0 = b"\x68"
PCI_CONFIG = 2
BYTE_ACCESS = 1


def name_string(path: str) -> bytes:
    """A NameString: "\\\\_SB.PCI0" or "^LNKA"; segments are padded to four characters."""
    body = path.lstrip("\\^")
    prefix = path[: len(path) - len(body)].encode()
    segments = [segment.ljust(4, "_").encode() for segment in body.split(".")] if body else []
    if any(len(segment) != 4 for segment in segments):
        raise ValueError(f"a name segment longer than four characters in {path}")
    if len(segments) > 2:
        return prefix + bytes([0x2F, len(segments)]) + b"".join(segments)
    return prefix + (b"\x2e" if len(segments) == 2 else b"\0" if not segments else b"") + b"".join(segments)


def _package_length(body: bytes) -> bytes:
    """PkgLength counts its own bytes too (section 20.2.4)."""
    if len(body) + 1 < 0x40:
        return bytes([len(body) + 1])
    for extra in (1, 2, 3):
        total = len(body) + 1 + extra
        if total < 1 << (4 + 8 * extra):
            return bytes([extra << 6 | total & 0xF]) + (total >> 4).to_bytes(extra, "little")
    raise ValueError("an AML object of 256 MiB")


def _wrapped(opcode: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return opcode + _package_length(body) + body


def integer(value: int) -> bytes:
    """The shortest constant."""
    if value in (0, 1):
        return bytes([value])
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4)):
        if value < 1 << 8 * size:
            return bytes([prefix]) + value.to_bytes(size, "little")
    return b"\x0e" + value.to_bytes(8, "little")


def term(value: Term) -> bytes:
    """Integers become constants, text becomes a name reference, bytes are AML already."""
    if isinstance(value, int):
        return integer(value)
    return name_string(value) if isinstance(value, str) else value


def string(text: str) -> bytes:
    """A string constant."""
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """A compressed EISA identifier such as "PNP0A03", a DWord constant (section 19.3.4)."""
    letters = 0
    for letter in text[:3]:
        letters = letters << 5 | ord(letter) - 0x40
    return b"\x0c" + struct.pack(">HH", letters, int(text[3:], 16))


def name(path: str, value: Term) -> bytes:
    """Name(path, value)"""
    return b"\x08" + name_string(path) + term(value)


def scope(path: str, *body: bytes) -> bytes:
    """Scope(path) { body }"""
    return _wrapped(b"\x10", name_string(path), *body)


def device(path: str, *body: bytes) -> bytes:
    """Device(path) { body }"""
    return _wrapped(b"\x5b\x82", name_string(path), *body)


def method(path: str, arguments: int, *body: bytes, serialized: bool = False) -> bytes:
    """Method(path, arguments) { body }"""
    return _wrapped(b"\x14", name_string(path), bytes([arguments | serialized << 3]), *body)


def buffer(content: bytes) -> bytes:
    """Buffer() { content }"""
    return _wrapped(b"\x11", integer(len(content)), content)


def package(*elements: Term) -> bytes:
    """Package() { elements }"""
    return _wrapped(b"\x12", bytes([len(elements)]), *(term(element) for element in elements))


def operation_region(path: str, space: int, offset: int, length: int) -> bytes:
    """OperationRegion(path, space, offset, length)"""
    return b"\x5b\x80" + name_string(path) + bytes([space]) + integer(offset) + integer(length)


def field(region: str, access: int, *fields: tuple[str, int]) -> bytes:
    """Field(region, access, NoLock, Preserve) of (name, bits); an empty name skips bits."""
    units = ((name_string(label) if label else b"\0") + _field_length(bits) for label, bits in fields)
    return _wrapped(b"\x5b\x81", name_string(region), bytes([access]), *units)


def _field_length(bits: int) -> bytes:
    if bits < 0x40:
        return bytes([bits])
    return bytes([1 << 6 | bits & 0xF, bits >> 4])


def store(source: Term, target: Term) -> bytes:
    """Store(source, target)"""
    return b"\x70" + term(source) + term(target)


def and_(left: Term, right: Term, target: Term = b"\0") -> bytes:
    """And(left, right, target)"""
    return b"\x7b" + term(left) + term(right) + term(target)


def or_(left: Term, right: Term, target: Term = b"\0") -> bytes:
    """Or(left, right, target)"""
    return b"\x7d" + term(left) + term(right) + term(target)


def return_(value: Term) -> bytes:
    """Return(value)"""
    return b"\xa4" + term(value)


def if_(condition: bytes, *body: bytes) -> bytes:
    """If(condition) { body }"""
    return _wrapped(b"\xa0", condition, *body)


def dword_field(source: Term, index: int, label: str) -> bytes:
    """CreateDWordField(source, index, label)"""
    return b"\x8a" + term(source) + integer(index) + name_string(label)


def notify(device: Term, value: int) -> bytes:
    """Notify(device, value)"""
    return b"\x86" + term(device) + integer(value)


# Resource descriptors


def resources(*descriptors: bytes) -> bytes:
    """A resource template: the descriptors and the end tag, as a Buffer."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def io(start: int, length: int) -> bytes:
    """A fixed range of ports, 16 address bits decoded."""
    return struct.pack("<BBHHBB", 0x47, 1, start, start, 1, length)


def irq(number: int) -> bytes:
    """An ISA interrupt: edge, active high, not shared."""
    return struct.pack("<BH", 0x22, 1 << number)


def interrupt(*numbers: int) -> bytes:
    """Extended interrupt descriptor: consumer, level, active high, shared."""
    return struct.pack(f"<BHBB{len(numbers)}I", 0x89, 2 + 4 * len(numbers), 0x09, len(numbers), *numbers)


def memory32(start: int, length: int) -> bytes:
    """A fixed range of memory, writable."""
    return struct.pack("<BHBII", 0x86, 9, 1, start, length)


def bus_numbers(first: int, last: int) -> bytes:
    """Word address space: the buses that a host bridge produces."""
    return struct.pack("<BHBBBHHHHH", 0x88, 13, 2, 0x0C, 0, 0, first, last, 0, last - first + 1)


def io_window(first: int, last: int) -> bytes:
    """Word address space: ports that a host bridge passes on."""
    return struct.pack("<BHBBBHHHHH", 0x88, 13, 1, 0x0C, 3, 0, first, last, 0, last - first + 1)


def memory_window(first: int, last: int, *, cacheable: bool = False) -> bytes:
    """DWord or QWord address space: memory that a host bridge passes on."""
    flags = 3 if cacheable else 1
    if last < 1 << 32:
        return struct.pack("<BHBBBIIIII", 0x87, 23, 0, 0x0C, flags, 0, first, last, 0, last - first + 1)
    return struct.pack("<BHBBBQQQQQ", 0x8A, 43, 0, 0x0C, flags, 0, first, last, 0, last - first + 1)


def translated_io_window(first: int, last: int, memory: int) -> bytes:
    """DWord address space: ports that a host bridge passes on, which are reached at address `memory` + port."""
    return struct.pack("<BHBBBIIIII", 0x87, 23, 1, 0x0C, 0x03 | 1 << 4, 0, first, last, memory, last - first + 1)


def gpio_interrupt(pin: int, controller: str) -> bytes:
    """GPIO connection descriptor (section 6.4.3.8.1): an interrupt, edge, active high, exclusive, pulled up."""
    name_at = 25
    end = name_at + len(controller) + 1
    head = struct.pack("<BHBBHHBHHHBHHHH", 0x8C, end - 3, 1, 0, 1, 1, 1, 0, 0, 23, 0, name_at, end, 0, pin)
    return head + controller.encode("ascii") + b"\0"


def table(signature: str, revision: int, body: bytes | Sequence[bytes]) -> bytes:
    """A system description table with its header (section 5.2.6) and checksum."""
    content = body if isinstance(body, bytes) else b"".join(body)
    header = struct.pack("<4sIBB6s8sI4sI", signature.encode(), 36 + len(content), revision, 0, b"EXUVIA", b"EXUVIAPC", 1, b"EXUV", 1)
    whole = bytearray(header + content)
    whole[9] = -sum(whole) & 0xFF
    return bytes(whole)
