"""`-smp`: how many processors there are, and how they lie in sockets, dies, clusters, cores and threads (QEMU, Invocation)."""

from collections.abc import Mapping
from math import prod

from exuvia.cli import keyval
from exuvia.machines.config import Topology
from exuvia.support.errors import UserError

LEVELS = ("sockets", "dies", "clusters", "cores", "threads")
KEYS = ("cpus", "maxcpus", *LEVELS)
MADE_UP = ("cores", "sockets", "threads")
"""Of what was left out, the first of these has as many as are wanted; the others, and dies and clusters, are one."""


def layout(said: keyval.Pairs, machine: str, levels: tuple[str, ...]) -> tuple[int, Topology]:
    """The number of processors, and where they are, of a `machine` that knows these levels. Raises UserError."""
    given = {key: _number(key, text) for key, text in keyval.only("smp", said, KEYS).items()}
    for level in LEVELS:
        if given.get(level, 1) > 1 and level not in levels:
            raise UserError(
                f"-smp: a {machine} has {', '.join(levels[:-1])} and {levels[-1]}, no {level}: leave {level}={given[level]} out"
            )
    most = given.get("maxcpus", given.get("cpus"))
    parts = _parts(given, most)
    count = prod(parts.values())
    if most is not None and count != most:
        shown = ", ".join(f"{level}={number}" for level, number in parts.items() if level in levels)
        raise UserError(f"-smp: {shown} make {count} processor{'s' * (count > 1)}, not {most}")
    cpus = given.get("cpus", count)
    if cpus > count:
        raise UserError(f"-smp: maxcpus={count} is less than cpus={cpus}")
    if cpus < count:
        raise UserError(f"-smp: maxcpus={count} has room for processors that are plugged in later, which cannot be done: write -smp {cpus}")
    return cpus, Topology(sockets=parts["sockets"], clusters=parts["clusters"], cores=parts["cores"], threads=parts["threads"])


def _parts(given: Mapping[str, int], most: int | None) -> dict[str, int]:
    parts = {level: given.get(level, 1) for level in LEVELS}
    free = next((level for level in MADE_UP if level not in given), None)
    if most is not None and free is not None:
        parts[free] = max(1, most // prod(parts.values()))
    return parts


def _number(key: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:7]) < 1_000_000:
        raise UserError(f"-smp: '{text}' is no number of {'processors' if key in ('cpus', 'maxcpus') else key}")
    return int(text)
