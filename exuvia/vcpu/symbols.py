"""Names of guest addresses from a `System.map`, /proc/kallsyms or the output of nm: lines of address, type and name."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from exuvia.support.errors import UserError

FARTHEST = 1 << 16  # bytes behind a symbol that may still belong to it: modules and user programs have none


class Symbols:
    """`name(address)` is `symbol+0x12`, empty where none is near."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Raises ValueError for a line that is no symbol."""
        found = {}
        for line in lines:
            address, kind, name, *_ = [*line.split(), "", "", ""]
            if kind in ("t", "T", "w", "W"):
                found[int(address, 16)] = name
        self.addresses = sorted(found)
        self.names = [found[a] for a in self.addresses]

    def name(self, address: int) -> str:
        """What stands there."""
        at = bisect_right(self.addresses, address) - 1
        if at < 0 or address - self.addresses[at] >= FARTHEST:
            return ""
        return f"{self.names[at]}+{address - self.addresses[at]:#x}"


def load(path: Path) -> Symbols:
    """The file's. Raises UserError."""
    try:
        symbols = Symbols(path.read_text("utf-8").splitlines())
    except OSError as error:
        raise UserError(f"--symbols {path}: {error.strerror}") from None
    except ValueError:
        symbols = Symbols()
    if not any(symbols.addresses):
        raise UserError(f"--symbols {path}: it has no lines of address, type and name (those of /proc/kallsyms are zeros but for root)")
    return symbols
