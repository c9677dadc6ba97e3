"""Sizes on a command line, and what is said of those that are none."""

from __future__ import annotations

from exuvia.disk.options import LARGEST, size
from exuvia.support.errors import UserError


def number(what: str, text: str, least: int = 0, most: int = LARGEST) -> int:
    """A size that the user gave as `what`. Raises UserError."""
    try:
        value = size(text)
    except UserError as error:
        if "too large" not in str(error):
            units = "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes."
            hint = f"You may use k, M, G, T, P or E suffixes for\nexuvia-img: {units}"
            raise UserError(f"Invalid {what} specified. {hint}") from None
        value = most + 1
    if not least <= value <= most:
        raise UserError(f"Invalid {what} specified. Must be between {least} and {most}.")
    return value
