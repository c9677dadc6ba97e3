"""Modules that are imported when something of them is used, for parts that most commands do without.

if TYPE_CHECKING:
    from exuvia.disk.formats.qcow2 import check
else:
    check = Later("exuvia.disk.formats.qcow2.check")
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def module(dotted: str) -> ModuleType:
    """importlib.import_module, which brings `warnings`: a fiftieth of a short command."""
    __import__(dotted)
    return sys.modules[dotted]


class Later:
    """The module `dotted`; in a class body, with `name`, an attribute of the class that is the module's."""

    def __init__(self, dotted: str, name: str = "") -> None:
        self.dotted, self.name = dotted, name

    def __getattr__(self, name: str) -> Any:
        return getattr(module(self.dotted), name)

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(module(self.dotted), self.name)
