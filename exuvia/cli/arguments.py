"""Command lines as getopt_long(3) takes them: options anywhere, `-fraw`, `-qp`, `--output json`, unambiguous beginnings of long names."""

from __future__ import annotations

from exuvia.cli.program import Wrong
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Arguments:
    """A parsed command line: `given` has (option, value) in order, `rest` the other words."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []
        self.rest: list[str] = []

    def has(self, name: str) -> bool:
        """Whether the option was given."""
        return any(option == name for option, _ in self.given)

    def values(self, name: str) -> list[str]:
        """Each value that was given, in order."""
        return [value for option, value in self.given if option == name]

    def value(self, name: str) -> str | None:
        """The last value that was given."""
        values = self.values(name)
        return values[-1] if values else None

    def one(self) -> str:
        """The only file name."""
        if len(self.rest) != 1:
            raise Wrong("Expecting one image file name")
        return self.rest[0]

    def json(self) -> bool:
        """What --output says."""
        output = self.value("output")
        if output not in (None, "json", "human"):
            raise UserError("--output must be used with human or json as argument.")
        return output == "json"


def parse(words: Sequence[str], options: str, keep_last: bool = False) -> Arguments:
    """Words by `options`: names, each with `=` if it takes a value, aliases joined with `/`, the first of which is its name.

    `keep_last`: the last word is never an option (a size may be negative). Raises Wrong.
    """
    known: dict[str, tuple[str, bool]] = {}
    for spec in ("help/h " + options).split():
        names = spec.removesuffix("=").split("/")
        known.update((name, (names[0], spec.endswith("="))) for name in names)
    result = Arguments()
    left = list(words)
    if keep_last:
        if not left:
            raise Wrong("Not enough arguments")
        last = [left.pop()]
        if last[0] in ("-h", "--help"):
            left, last = last, []
    while left:
        word = left.pop(0)
        if word == "--":
            result.rest += left
            left = []
        elif word.startswith("--"):
            _long(word, left, known, result)
        elif word.startswith("-") and len(word) > 1:
            _short(word, left, known, result)
        else:
            result.rest.append(word)
    if keep_last:
        result.rest += last
    return result


def _long(word: str, left: list[str], known: dict[str, tuple[str, bool]], result: Arguments) -> None:
    text, equals, value = word[2:].partition("=")
    fitting = [name for name in known if len(name) > 1 and name.startswith(text)]
    if text in fitting:
        fitting = [text]
    if len({known[name][0] for name in fitting}) != 1:
        raise Wrong(f"unrecognized option '{word}'")
    name, takes_value = known[fitting[0]]
    if takes_value and not equals:
        if not left:
            raise Wrong(f"missing argument for option '{word}'")
        value = left.pop(0)
    elif equals and not takes_value:
        raise Wrong(f"unrecognized option '{word}'")
    result.given.append((name, value))


def _short(word: str, left: list[str], known: dict[str, tuple[str, bool]], result: Arguments) -> None:
    for at, letter in enumerate(word[1:], 1):
        if letter not in known:
            raise Wrong(f"unrecognized option '{word}'")
        name, takes_value = known[letter]
        if not takes_value:
            result.given.append((name, ""))
            continue
        value = word[at + 1 :]
        if not value:
            if not left:
                raise Wrong(f"missing argument for option '{word}'")
            value = left.pop(0)
        result.given.append((name, value))
        return
