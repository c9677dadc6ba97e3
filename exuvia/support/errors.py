"""The user's errors: one line, exit status 1, never a traceback."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class UserError(Exception):
    """Something the user asked for cannot be done; the text is the one line that the command prints."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a `name` that is no `kind`, with up to three of the nearest `known` names (all of them when they are few)."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, 3, 0.5) or (names if len(names) <= 8 else [])
    if not near:
        return UserError(f"unknown {kind} '{name}'")
    listed = " or ".join([", ".join(near[:-1]), near[-1]] if len(near) > 1 else near)
    return UserError(f"unknown {kind} '{name}' (did you mean {listed}?)")
