"""What the processors are: one folder for each architecture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exuvia.dsl.architecture import Architecture


class UnknownName(ValueError):
    """A processor model or feature that does not exist; the message names the nearest."""


def cpus(name: str) -> Any:
    """An architecture's models, without the rest of it: a module with MODELS (by name; each has `about`), FEATURES,
    `canonical_name(feature)` and `model(name, changes)`."""
    return import_module(f"exuvia.isa.{name}.cpus")


def translate(name: str) -> Any:
    """An architecture's `translate(processor, linear, read)`: where a linear address leads, for a person who looks; None for nowhere."""
    return import_module(f"exuvia.isa.{name}.translate").translate


def architecture(name: str) -> Architecture:
    """The architecture of a folder here, with all of its chapters loaded."""
    made: Architecture = import_module(f"exuvia.isa.{name}.architecture").architecture()
    return made
