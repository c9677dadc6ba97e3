"""A file in a leaf folder is its registration: these walk a package and find what its modules declare."""

from __future__ import annotations

import os
from collections.abc import Mapping

from exuvia.support.errors import unknown
from exuvia.support.later import module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    T = TypeVar("T")


def modules(package: str) -> dict[str, str]:
    """Module name (the file's stem) to dotted name for every module in `package` and its sub-packages, without importing the modules.

    Files and folders that begin with an underscore are private and left out.
    """
    found: dict[str, str] = {}
    for folder in module(package).__path__:
        for entry in sorted(os.listdir(folder)):  # pkgutil would import inspect, which takes 5 ms
            name, dot, suffix = entry.partition(".")
            if name.startswith("_"):
                continue
            if suffix == "py":
                found[name] = f"{package}.{name}"
            elif not dot and os.path.exists(f"{folder}/{name}/__init__.py"):
                found.update(modules(f"{package}.{name}"))
    return found


class Registry(Mapping[str, "type[T]"]):
    """The subclasses of `base` in the modules of `package`, by their own `name` attribute; modules are imported at the first look-up.

    A class without a `name` of its own (an abstract base) is not registered. `kind` is the word that error messages use. A name that is its
    file's too (`-` and `.` are `_` there), or begins with it, is found without importing the other files. `by_file`: every name is, so that
    what has no file is not there; of a folder, the file of its name counts.
    """

    def __init__(self, package: str, base: type[T], kind: str, *, by_file: bool = False) -> None:
        self.package, self.base, self.kind, self.by_file = package, base, kind, by_file
        self._alone: dict[str, type[T]] = {}
        self._all: dict[str, type[T]] | None = None
        self._files: dict[str, str] | None = None

    @property
    def _modules(self) -> dict[str, str]:
        if self._files is None:
            found = modules(self.package)
            top = self.package.count(".") + 1
            self._files = {
                name: dotted
                for name, dotted in found.items()
                if not self.by_file or dotted.count(".") == top or dotted.endswith(f".{name}.{name}")
            }
        return self._files

    @property
    def _found(self) -> dict[str, type[T]]:
        if self._all is None:
            found: dict[str, type[T]] = {}
            for dotted in self._modules.values():
                for name, value in self._declared(dotted):
                    if name in found:
                        raise TypeError(f"{self.kind} '{name}' is declared in {found[name].__module__} and in {dotted}")
                    found[name] = value
            self._all = dict(sorted(found.items()))
        return self._all

    def _declared(self, dotted: str) -> Iterator[tuple[str, type[T]]]:
        """The classes of one module."""
        for value in vars(module(dotted)).values():
            if isinstance(value, type) and issubclass(value, self.base) and value.__module__ == dotted and "name" in vars(value):
                yield vars(value)["name"], value

    def __getitem__(self, name: str) -> type[T]:
        """The class; raises UserError with the nearest names when there is none."""
        if name not in self:
            raise unknown(self.kind, name, self._found)
        return self._alone.get(name) or self._found[name]

    def __contains__(self, name: object) -> bool:
        if name in self._alone:
            return True
        if self._all is None and isinstance(name, str):
            stem = name.replace("-", "_").replace(".", "_")
            while stem and stem not in self._modules:
                stem = stem.rpartition("_")[0]
            self._alone.update(self._declared(self._modules[stem]) if stem else ())
        return name in self._alone or ((self._all is not None or not self.by_file) and name in self._found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
