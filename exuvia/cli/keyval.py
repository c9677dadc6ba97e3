"""QEMU's `KEY=VALUE,KEY=VALUE` syntax: `,,` is a comma in a value; a first word without `=` is the value of an implied key."""

from collections.abc import Iterable

from exuvia.support.errors import UserError, unknown

Pairs = list[tuple[str, str]]
SWITCH = dict.fromkeys(("on", "yes", "true", "y"), True) | dict.fromkeys(("off", "no", "false", "n"), False)


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


def described(option: str, text: str, implied: str) -> Pairs:
    """The same for `option`, or one JSON object, as libvirt writes them; `implied` is given, and comes first. Raises UserError."""
    if not text.startswith("{"):
        pairs = parse(text, implied)
    else:
        import json

        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{option} {text}: this is not JSON: {error}") from None
        pairs = [(key, _word(f"{option} {text}: {key}", value)) for key, value in said.items()]
        pairs.sort(key=lambda pair: pair[0] != implied)
    if not pairs or pairs[0][0] != implied:
        raise UserError(f"{option} {text}: it begins with {implied}")
    return pairs


def _word(what: str, value: object) -> str:
    """A JSON value as the same thing is written without JSON."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int):
        return str(value)
    raise UserError(f"{what} is a text, a number, true or false")


def only(option: str, pairs: Pairs, known: Iterable[str]) -> dict[str, str]:
    """The last value of each key of `-option`. Raises UserError for a key that is not `known`."""
    known = list(known)
    for key, _ in pairs:
        if key not in known:
            raise unknown(f"property of -{option}", key, known)
    return dict(pairs)


def switch(what: str, text: str) -> bool:
    """Whether `what` is on. Raises UserError."""
    if text.lower() not in SWITCH:
        raise UserError(f"{what} is on or off, not '{text}'")
    return SWITCH[text.lower()]


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
