"""What commands print: JSON as QEMU lays it out, and sizes for people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def word(value: Any) -> str:
    """A string, a number or a truth value as QEMU's JSON has it: escapes have upper case, what is not UTF-8 is U+FFFD."""
    import json  # a twelfth of what a short command that prints none takes
    import re

    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.sub(r"\\(u[0-9a-f]{4}|.)", lambda found: f"\\u{found[1][1:].upper()}" if len(found[1]) > 1 else found[0], json.dumps(value))


def place(key: str) -> int:
    """Where QEMU's JSON shows a key among its siblings: it lists an object by buckets of a hash (that of Samba's tdb) of the key."""
    value = 0x238F13AF * len(key.encode())
    for at, byte in enumerate(key.encode()):
        value += byte << at * 5 % 24
    return (1103515243 * (value & 0xFFFFFFFF) + 12345 & 0xFFFFFFFF) % 512


def ordered(members: dict[str, Any]) -> list[tuple[str, Any]]:
    """The members in QEMU's order. (In a bucket the last one set stands first.)"""
    latest_first = dict(reversed(members.items()))
    return sorted(latest_first.items(), key=lambda item: place(item[0]))


def pretty(value: Any, indent: int = 0) -> str:
    """`value` as JSON over several lines."""
    inner, outer = "    " * (indent + 1), "    " * indent
    if isinstance(value, dict):
        lines = [f"{inner}{word(key)}: {pretty(item, indent + 1)}" for key, item in ordered(value)]
        return "{\n" + ",\n".join(lines) + f"\n{outer}}}"
    if isinstance(value, list | tuple):
        return "[\n" + ",\n".join(inner + pretty(item, indent + 1) for item in value) + f"\n{outer}]"
    return word(value)


def flat(value: Any) -> str:
    """`value` as JSON in one line, as in `json:{…}` names."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{word(key)}: {flat(item)}" for key, item in ordered(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flat, value)) + "]"
    return word(value)


def listed(value: Any, indent: int = 1) -> str:
    """`value` for people: a line for each member, dashes of names as spaces."""
    lines = []
    pairs = [(f"[{at}]", item) for at, item in enumerate(value)] if isinstance(value, list) else ordered(value)
    for key, item in pairs:
        head = "    " * indent + (key if key.startswith("[") else key.replace("-", " ")) + ":"
        if isinstance(item, list | dict):
            lines.append(f"{head}\n{listed(item, indent + 1)}")
        else:
            lines.append(f"{head} {str(item).lower() if isinstance(item, bool) else item}\n")
    return "".join(lines)


def readable(size: int) -> str:
    """A size with three digits and a unit: 1.5 MiB."""
    import math

    power = max(math.frexp(size / (1000 / 1024))[1] - 1, 0) // 10
    return f"{size / (1 << 10 * power):.3g} {' KMGTPE'[power].strip()}{'i' if power else ''}B"
