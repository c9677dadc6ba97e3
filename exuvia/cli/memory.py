"""How much memory the guest has: `-m`, the objects that stand for it, and `-numa` (QEMU, System Emulation, Invocation)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exuvia.cli import keyval
from exuvia.support.errors import UserError

PREFIX = "memory-backend-"
ANY = ("id", "size", "share", "merge", "dump", "reserve", "policy", "x-use-canonical-path-for-ramblock-id")
FIXED = {"prealloc": False, "hugetlb": False, "seal": True}
"""Properties of memory that have one value here."""
ONE_NODE = "there is one node with all processors and all memory"


class Node(NamedTuple):
    """`-numa node`: the backend and the bytes that it names, and its last processor (-1: not said)."""

    option: str
    backend: str | None
    memory: int | None
    last: int


def size(value: str, before: int) -> int:
    """The bytes of `-m VALUE`, `before` where it does not say. Raises UserError."""
    said = keyval.only("m", keyval.parse(value, "size"), ("size", "maxmem", "slots"))
    try:
        memory = keyval.size(said["size"]) if "size" in said else before
        most = keyval.size(said["maxmem"], 1) if "maxmem" in said else memory
    except UserError as error:
        raise UserError(f"-m: {error}") from None
    if not re.fullmatch(r"\d{1,3}", said.get("slots", "0")):
        raise UserError(f"-m: slots is a number, not '{said['slots']}'")
    if most < memory:
        raise UserError(f"-m: maxmem={said['maxmem']} is less than the memory that there is ({shown(memory)})")
    if most > memory or int(said.get("slots", "0")):
        raise UserError(
            f"-m: maxmem and slots are room for memory that is plugged in later, which cannot be done: write -m {shown(memory)}"
        )
    return memory


def shown(memory: int) -> str:
    """A size as it is written on the command line."""
    return f"{memory >> 20}M" if not memory % (1 << 20) else f"{memory}B"


def backend(option: str, kind: str, pairs: keyval.Pairs) -> tuple[str, int]:
    """The id and the bytes of an object memory-backend-KIND, which all are what the guest's memory is anyway. Raises UserError."""
    if kind not in ("ram", "memfd"):
        raise UserError(f"{option}: the guest's memory is a memfd: write memory-backend-memfd or memory-backend-ram")
    said = keyval.only("object", pairs, (*ANY, *FIXED))
    for key, value in FIXED.items():
        if key in said and keyval.switch(f"{option}: {key}", said[key]) is not value:
            raise UserError(f"{option}: {key} is {'on' if value else 'off'} here, not {said[key]}")
    if not said.get("id") or "size" not in said:
        raise UserError(f"{option}: it needs id=ID and size=SIZE")
    try:
        return said["id"], keyval.size(said["size"], 1)
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


def node(value: str) -> Node:
    """What `-numa VALUE` describes. Raises UserError."""
    option = f"-numa {value}"
    pairs = keyval.parse(value, "type")
    if pairs[0] != ("type", "node"):
        raise UserError(f"{option}: {ONE_NODE}, so it is node and no more")
    ranges = [text for key, text in pairs if key == "cpus"]
    said = keyval.only("numa", pairs, ("type", "nodeid", "cpus", "mem", "memdev"))
    if said.get("nodeid", "0") != "0":
        raise UserError(f"{option}: {ONE_NODE}, nodeid=0")
    if not all(re.fullmatch(r"\d{1,6}(-\d{1,6})?", text) for text in ranges):
        raise UserError(f"{option}: cpus is FIRST-LAST")
    try:
        memory = keyval.size(said["mem"]) if "mem" in said else None
    except UserError as error:
        raise UserError(f"{option}: {error}") from None
    last = max((int(text.rpartition("-")[2]) for text in ranges), default=-1)
    return Node(option, said.get("memdev"), memory, last)


def one_node(nodes: Sequence[Node], memory: int, processors: int) -> list[tuple[str, str]]:
    """Raises UserError unless the nodes are one, which has all; the backend that it names, with its option, in a list."""
    if len(nodes) > 1:
        raise UserError(f"{nodes[1].option}: {ONE_NODE}, leave -numa out")
    for node in nodes:
        if node.memory not in (None, memory):
            raise UserError(f"{node.option}: {ONE_NODE}, mem={shown(memory)}")
        if node.last >= processors:
            raise UserError(f"{node.option}: there is no processor {node.last}, the last one is {processors - 1}")
    return [(node.option, node.backend) for node in nodes if node.backend is not None]


def must_be_all(memory: int, backends: Mapping[str, int], named: Iterable[tuple[str, str]]) -> None:
    """Raises UserError unless the backends that options name (option, id) are there and are all of the guest's memory."""
    for option, id in named:
        if id not in backends:
            raise UserError(f"{option}: there is no object '{id}' (-object memory-backend-ram,id={id},size={shown(memory)} makes it)")
        if backends[id] != memory:
            raise UserError(f"{option}: '{id}' has {shown(backends[id])}, and the machine {shown(memory)}")
