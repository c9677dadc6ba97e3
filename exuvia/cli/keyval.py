"""QEMU's `KEY=VALUE,KEY=VALUE` syntax: `,,` is a comma in a value; a first word without `=` is the value of an implied key."""

from exuvia.support.errors import UserError

Pairs = list[tuple[str, str]]


def parse(text: str, implied: str | None = None) -> Pairs:
    """The pairs in order. A key without `=` is on, `nowait` is wait=off, as QEMU takes them. Raises UserError for no key."""
    pairs: Pairs = []
    for number, part in enumerate(split(text)):
        key, equals, value = part.partition("=")
        if number == 0 and implied is not None and not equals:
            pairs.append((implied, part))
        elif not key:
            raise UserError(f"'{text}' has no name before a value")
        elif equals:
            pairs.append((key, value))
        else:
            pairs.append(("wait", "off") if key == "nowait" else (key, "on"))
    return pairs


def split(text: str) -> list[str]:
    """The parts between single commas, with `,,` as a comma."""
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]  # an argument holds no NUL


def size(text: str, unit: int = 1 << 20) -> int:
    """A size in bytes: a number (decimals allowed) with B, K, M, G or T, by default in units of `unit`. Raises UserError."""
    import re

    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([bBkKmMgGtT]?)", text)
    if match is None:
        raise UserError(f"'{text}' is no size (a number, perhaps with K, M, G or T)")
    scale = 1 << 10 * "bkmgt".index(match[2].lower()) if match[2] else unit
    return int(float(match[1]) * scale)
