"""Which implementation a machine's processors get: the first of the accelerators asked for that this host can give.

A module here is an accelerator: `create(machine, index, controller)` makes a processor, or raises Unavailable; `take_over(machine)` and
`let_go(machine)` say from when, and how long, the machine runs on them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from exuvia.support.errors import UserError

ACCELERATORS = {
    "software": "processors made by Exuvia, on any host (tcg is another name for it)",
    "kvm": "the host's own processor, where Linux gives access to it",
}
ALIASES = {"tcg": "software"}


class Unavailable(Exception):
    """An accelerator cannot be used here; the message says why."""


def create(machine: Any, index: int, controller: Any) -> Any:
    """Processor `index` of a machine. Raises UserError for an unknown accelerator, model or feature, or where none can be used."""
    if machine.accelerator:
        try:
            return make(machine.accelerator, machine, index, controller)
        except Unavailable as reason:
            raise UserError(f"-accel {machine.accelerator}: {reason}") from None
    names = list(dict.fromkeys(ALIASES.get(name, name) for name in machine.config.accel))
    for place, name in enumerate(names):
        if name not in ACCELERATORS:
            raise UserError(f"-accel {name}: no such accelerator; there are {', '.join(ACCELERATORS)}")
        try:
            made = make(name, machine, index, controller)
        except Unavailable as reason:
            if name == names[-1]:
                raise UserError(f"-accel {name}: {reason}") from None
            print(f"exuvia: -accel {name}: {reason}; going on with {names[place + 1]}", file=sys.stderr)
            continue
        machine.accelerator = name
        _module(name).take_over(machine)
        return made
    raise UserError("-accel: no accelerator was named")


def make(name: str, machine: Any, index: int, controller: Any) -> Any:
    """A processor of this accelerator and no other."""
    return _module(name).create(machine, index, controller)


def _module(name: str) -> Any:
    return import_module(f"exuvia.vcpu.accelerators.{name}")


def switch(machine: Any, name: str) -> None:
    """Let this accelerator's processors go on where the machine's stand: in the machine thread, while none runs (`Machine.alone`).

    Raises Unavailable where it cannot be used, or lacks what the guest was told that it has."""
    before = list(machine.vcpus)
    if not before or name == machine.accelerator:
        return
    made = [make(name, machine, vcpu.index, vcpu.controller) for vcpu in before]
    for new, old in zip(made, before, strict=True):
        new.must_be_like(old)
    pending = [vcpu.settle() for vcpu in before]
    _module(machine.accelerator).let_go(machine)
    machine.accelerator = name
    _module(name).take_over(machine)
    for vcpu in made:
        machine.install(vcpu)
    for new, old, event in zip(made, before, pending, strict=True):
        new.adopt(old, event)
