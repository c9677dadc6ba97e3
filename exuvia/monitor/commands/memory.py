"""Commands that show memory."""

import re
from collections.abc import Callable

from exuvia.monitor.monitor import Monitor
from exuvia.support.errors import UserError

_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
_DIGITS = {
    "x": {1: 2, 2: 4, 4: 8, 8: 16},
    "o": {1: 3, 2: 6, 4: 11, 8: 22},
    "d": {1: 4, 2: 6, 4: 11, 8: 20},
    "u": {1: 3, 2: 5, 4: 10, 8: 20},
}
_MAX = 65536  # bytes of one dump


def do_x(monitor: Monitor, format: str, address: str = "") -> None:
    """show memory at a virtual address: x /8xg ADDRESS (count, one of x d u o c, size b h w g)"""
    memory = monitor.machine.memory

    def fetch(start: int, length: int) -> bytes:
        data = b""
        while length:
            physical = monitor.translate(monitor.processor, start, memory.read)
            if physical is None:
                raise UserError(f"nothing is mapped at {start:#x}")
            part = min(length, 4096 - start % 4096)
            data += memory.read_bytes(physical, part)
            start, length = (start + part) & (1 << 64) - 1, length - part
        return data

    _dump(monitor, format, address, fetch)


def do_xp(monitor: Monitor, format: str, address: str = "") -> None:
    """show memory at a physical address: xp /16xb ADDRESS (count, one of x d u o c, size b h w g)"""
    _dump(monitor, format, address, monitor.machine.memory.read_bytes)


def _dump(monitor: Monitor, format: str, address: str, fetch: Callable[[int, int], bytes]) -> None:
    if not format.startswith("/"):
        if address:
            raise UserError(f"a format such as /8xg goes before the address, not '{format}'")
        format, address = "/", format
    match = re.fullmatch(r"/(\d{0,5})([xduoc]?)([bhwg]?)", format)
    if match is None:
        raise UserError(f"a format is /COUNT, one of x d u o c and a size b h w g, not '{format}'")
    count, style = int(match[1] or 1), match[2] or "x"
    size = _SIZES[match[3] or ("b" if style == "c" else "w")]
    try:
        start = int(address, 0)
    except ValueError:
        raise UserError(f"'{address}' is no address") from None
    if not 0 <= start < 1 << 64 or count * size > _MAX or start + count * size > 1 << 64:
        raise UserError(f"at most {_MAX} bytes are shown, below 2**64")
    data = fetch(start, count * size)
    width = 16 // size if style == "c" or size > 1 else 8
    for at in range(0, count, width):
        values = [_text(data[item * size : (item + 1) * size], style) for item in range(at, min(at + width, count))]
        monitor.print(f"{start + at * size:016x}: {' '.join(values)}")


def _text(data: bytes, style: str) -> str:
    value = int.from_bytes(data, "little", signed=style == "d")
    if style == "c":
        return f"'{chr(data[0])}'" if 32 <= data[0] < 127 else f"'\\x{data[0]:02x}'"
    digits = _DIGITS[style][len(data)]
    return {"x": f"0x{value:0{digits}x}", "o": f"0{value:0{digits}o}"}.get(style, f"{value:>{digits}}")
