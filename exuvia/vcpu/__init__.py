"""Processors as a machine sees them, and the virtual time that they share."""

from typing import Any


def create(machine: Any, index: int, controller: Any) -> Any:
    """Processor `index` of a machine; see `accelerators.create`."""
    from exuvia.vcpu.accelerators import create as make

    return make(machine, index, controller)
