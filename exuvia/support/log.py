"""The log of `-d ITEM,ITEM -D FILE`: one callable per item, nearly free while the item is off.

`log.unimp("...")` writes when `-d unimp` was given; test `log.unimp.on` first where making the text costs something.
"""

import contextlib
import sys
from typing import TextIO

from exuvia.support.errors import UserError, unknown

_ONCE_LIMIT = 4096  # keys remembered per item: a guest chooses them, so they are bounded


class Item:
    """One word of `-d`."""

    def __init__(self, name: str, help: str) -> None:
        self.name, self.help = name, help
        self.on = False
        self._seen: set[object] = set()
        items[name] = self

    def __call__(self, text: str) -> None:
        """Write the line `text` when the item is on."""
        if self.on:
            _write(text)

    def once(self, key: object, text: str) -> None:
        """Write `text` the first time that this hashable `key` is seen while the item is on."""
        if self.on and key not in self._seen and len(self._seen) < _ONCE_LIMIT:
            self._seen.add(key)
            _write(text)


_file: TextIO | None = None  # None: standard error, looked up at each line


def _write(text: str) -> None:
    file = _file or sys.stderr
    with contextlib.suppress(OSError):  # a full disk, or nobody reads: lines are lost, the guest goes on
        file.write(text if text.endswith("\n") else text + "\n")
        file.flush()


def configure(words: str, path: str | None = None) -> None:
    """Turn on the comma-separated items of `words` (`all` for every one; others go off) and write to the file `path` or standard error.

    Raises UserError for an unknown item or a file that cannot be written.
    """
    global _file
    chosen = [word for word in words.split(",") if word]
    for word in chosen:
        if word != "all" and word not in items:
            raise unknown("log item", word, [*items, "all"])
    if path is not None:
        try:
            opened = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  kept for the life of the process
        except OSError as error:
            raise UserError(f"cannot write the log to {path}: {error.strerror}") from None
    if _file is not None:
        with contextlib.suppress(OSError):  # as in _write
            _file.close()
    _file = opened if path is not None else None
    for item in items.values():
        item.on = item.name in chosen or "all" in chosen
        item._seen.clear()


def help_text() -> str:
    """The lines of `-d help`."""
    return "".join(f"{item.name:<15} {item.help}\n" for item in items.values()) + f"{'all':<15} everything above\n"


items: dict[str, Item] = {}
unimp = Item("unimp", "what the guest used and Exuvia does not have")
guest_errors = Item("guest_errors", "invalid use of a device or of the architecture by the guest")
interrupts = Item("int", "interrupts and exceptions, as they are delivered")
in_asm = Item("in_asm", "guest code, disassembled, when a block is first met")
exec = Item("exec", "every block that is entered (the guest runs slowly)")
hot = Item("hot", "regions of compiled code: made, found in the store, dropped, and why there is none")
cpu_reset = Item("cpu_reset", "the processor's registers before each reset")
