"""Directory entries of FAT (Microsoft, FAT: General Overview of On-Disk Format 1.03, "FAT Directory Structure" and "long names")."""

import struct
import time

READ_ONLY, LABEL, DIRECTORY, LONG = 0x01, 0x08, 0x10, 0x0F
ENTRY = struct.Struct("<11sBBBHHHHHHHI")
SIZE = 32  # bytes of an entry
_FORBIDDEN = {ord(letter): "_" for letter in '"*/:<>?\\|'} | dict.fromkeys((*range(32), 127, *range(55296, 57344)), "_")
_SHORT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'()-@^_`{}~")
LONGEST = 255  # UTF-16 units of a long name


class Names:
    """The names of one folder: long and short, both unique without regard to case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def add(self, name: str) -> tuple[str, bytes]:
        """The long name and the 11 bytes of the short one that stand for `name`."""
        clean = name.translate(_FORBIDDEN).rstrip(". ") or "_"
        while len(clean.encode("utf-16-le")) > 2 * LONGEST:
            clean = clean[:-1]
        long, number = clean, 1
        while long.upper() in self._taken:
            long, number = f"{clean[: LONGEST - 8]}~{number}", number + 1
        stem, _, ending = long.rpartition(".")
        if not stem.strip("."):
            stem, ending = long, ""
        base, tail = _letters(stem), _letters(ending)[:3]
        fits = (base, tail) == (stem.upper(), ending.upper()) and len(base) <= 8 and long.isascii()
        short, number = (base, 1) if fits else (f"{base[:6]}~1", 2)
        while f"{short}.{tail}" in self._taken:
            mark = f"~{number}"
            short, number = base[: 8 - len(mark)] + mark, number + 1
        self._taken |= {long.upper(), f"{short}.{tail}", f"{short}.{tail}".rstrip(".")}
        return long, short.ljust(8).encode("ascii") + tail.ljust(3).encode("ascii")


def _letters(text: str) -> str:
    """What of it a short name may have."""
    return "".join(letter if letter in _SHORT else "_" for letter in text.upper() if letter not in " .") or ("_" if text else "")


def entry(short: bytes, attributes: int, cluster: int, size: int, seconds: float) -> bytes:
    """A short entry."""
    day, clock = _stamp(seconds)
    return ENTRY.pack(short, attributes, 0, 0, clock, day, day, cluster >> 16, clock, day, cluster & 0xFFFF, size)


def entries(long: str, short: bytes, attributes: int, cluster: int, size: int, seconds: float) -> bytes:
    """The entries of a file or folder: those with the long name, from its end to its beginning, then the short one."""
    sum = 0
    for byte in short:
        sum = ((sum & 1) << 7 | sum >> 1) + byte & 0xFF
    units = long.encode("utf-16-le")
    if len(units) % 26:
        units = (units + b"\0\0").ljust(-(-len(units) // 26) * 26, b"\xff")
    count = len(units) // 26
    out = b""
    for number in range(count, 0, -1):
        part = units[(number - 1) * 26 : number * 26]
        order = number | (0x40 if number == count else 0)
        out += bytes([order]) + part[:10] + bytes([LONG, 0, sum]) + part[10:22] + bytes(2) + part[22:]
    return out + entry(short, attributes, cluster, size, seconds)


def length(long: str) -> int:
    """Bytes that `entries` gives for a name."""
    return SIZE * (1 + -(-len(long.encode("utf-16-le")) // 26))


def _stamp(seconds: float) -> tuple[int, int]:
    """Date and time of a FAT, in local time, as near as it can be said."""
    at = time.localtime(min(max(seconds, 0), 0xFFFFFFFF))
    year = min(max(at.tm_year, 1980), 2107)
    return (year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday, at.tm_hour << 11 | at.tm_min << 5 | min(at.tm_sec, 59) // 2
