"""Options of drivers and of image creation: `Option` declares one, `values` checks what a user gave (text, or JSON's own types)."""

from __future__ import annotations

from exuvia.support.errors import UserError, unknown
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

SUFFIXES = "bkmgtpe"
LARGEST = (1 << 63) - 1


def size(text: str, unit: int = 1, what: str = "size") -> int:
    """Bytes from a number (decimal, 0x hexadecimal, or with a fraction), perhaps with b, k, M, G, T, P or E of 1024s. Raises UserError."""
    if unit == 1 and text.isdecimal() and text.isascii() and len(text) < 19:
        return int(text)
    import re  # as in cli/keyval.py: half of what our own modules take

    match = re.fullmatch(r"\s*\+?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}(?:\.[0-9]{0,18})?)([bBkKmMgGtTpPeE]?)", text)
    if match is None or (scale_of(match[2], unit) == 1 and match[1].partition(".")[2].strip("0")):
        raise UserError(f"'{text}' is no {what} (a number, perhaps with k, M, G, T, P or E)")
    number, suffix = match.groups()
    scale = scale_of(suffix, unit)
    if number.lower().startswith("0x"):
        value = int(number, 16) * scale
    elif "." in number:
        whole, fraction = number.split(".")
        value = int(whole) * scale + int(fraction or 0) * scale // 10 ** len(fraction)
    else:
        value = int(number) * scale
    if value > LARGEST:
        raise UserError(f"'{text}' is too large a {what} (8 EiB at most)")
    return value


def scale_of(suffix: str, unit: int) -> int:
    """What a number with that suffix is multiplied by."""
    return 1 << 10 * SUFFIXES.index(suffix.lower()) if suffix else unit


class Option(Record):
    """One option: `type` is str, int, bool, "size", a tuple of the allowed words, or object for whatever has an inner structure.

    `default` None means "not given".

    `told`: `create` names the default, unless that is None, when it says what it makes; QEMU does for few, so None is the usual default.
    """

    name: str
    type: type[object] | str | tuple[str, ...]
    default: Any = None
    text: str = ""
    told: bool = True

    def value(self, given: Any) -> Any:
        """`given` as this option's type. Raises UserError naming the option."""
        try:
            if isinstance(self.type, tuple):
                if given not in self.type:
                    raise unknown(self.name, str(given), self.type)
                return given
            if self.type is object:
                return given
            if self.type is bool:
                return (
                    given
                    if isinstance(given, bool)
                    else {"on": True, "off": False, "yes": True, "no": False, "true": True, "false": False}[given]
                )
            if self.type == "size":
                return given if isinstance(given, int) and not isinstance(given, bool) else size(given)
            if self.type is int:
                return int(given) if isinstance(given, int) else int(given, 0)
            return str(given)
        except (KeyError, ValueError, TypeError, AttributeError):
            words = {bool: "on or off", int: "a number", "size": "a size"}.get(self.type, "text")
            raise UserError(f"option {self.name}: '{given}' should be {words}") from None


def values(options: Iterable[Option], given: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """Every option's value: what was given, checked, else its default. Raises UserError for an unknown name."""
    table = {option.name: option for option in options}
    for name in given:
        if name not in table:
            raise unknown(f"option of {whose}", name, table)
    return {name: option.value(given[name]) if given.get(name) is not None else option.default for name, option in table.items()}
