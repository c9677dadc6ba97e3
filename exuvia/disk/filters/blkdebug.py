"""blkdebug: rules make requests fail or stop, for tests (QEMU, docs/devel/blkdebug and BlockdevOptionsBlkdebug).

An event is something that a format above is about to do, such as `read_aio` and `write_aio` (a guest's data), or that comes by here:
`flush_to_disk`, `pwritev`, `pwritev_zero`. A rule of event `none` holds from the beginning.
"""

import errno as numbers
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exuvia.disk.filter import Filter
from exuvia.disk.node import Node
from exuvia.disk.options import Option, values
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

EVENTS = """l1_update l1_grow.alloc_table l1_grow.write_table l1_grow.activate_table l2_load l2_update l2_update_compressed
    l2_alloc.cow_read l2_alloc.write read_aio read_backing_aio read_compressed write_aio write_compressed
    vmstate_load vmstate_save cow_read cow_write
    reftable_load reftable_grow reftable_update refblock_load refblock_update refblock_update_part refblock_alloc refblock_alloc.hookup
    refblock_alloc.write refblock_alloc.write_blocks refblock_alloc.write_table refblock_alloc.switch_table cluster_alloc
    cluster_alloc_bytes cluster_free flush_to_os flush_to_disk pwritev_rmw.head pwritev_rmw.after_head pwritev_rmw.tail
    pwritev_rmw.after_tail pwritev pwritev_zero pwritev_done empty_image_prepare l1_shrink.write_table l1_shrink.free_l2_clusters
    cor_write cluster_alloc_space none""".split()
TYPES = ("read", "write", "write-zeroes", "discard", "flush")  # of requests that fail unless `iotype` says which
SECTOR = 512
INJECT = (
    Option("event", tuple(EVENTS)),
    Option("state", int, 0, "hold only in this state"),
    Option("iotype", (*TYPES, "block-status"), None, "fail only such requests"),
    Option("errno", int, numbers.EIO, "the host's number of the error"),
    Option("sector", int, -1, "fail only requests that touch this sector"),
    Option("once", bool, False, "fail one request only"),
    Option("immediately", bool, False, "taken; all fail alike here"),
)
CHANGE = (Option("event", tuple(EVENTS)), Option("state", int, 0, "hold only in this state"), Option("new_state", int, 0, "go there"))


@dataclass
class Rule:
    """One section of the rules, or a breakpoint when it has a `tag`."""

    event: str
    state: int = 0
    inject: dict[str, Any] | None = None
    new_state: int = 0
    tag: str = ""


class BlkDebug(Filter):
    """`state` begins with 1. `say` is told when a breakpoint stops a request and lets it go."""

    name = "blkdebug"
    CHILDREN = ("image",)
    schemes = ("blkdebug",)
    OPTIONS = (
        Option("config", str, None, "a file of rules"),
        Option("inject-error", object, None, "rules that make requests fail"),
        Option("set-state", object, None, "rules that change the state"),
        Option("align", "size", None, "taken; requests of any size pass"),
    )

    @classmethod
    def describe(cls, name: str) -> dict[str, Any]:
        """`blkdebug:RULES:IMAGE`; the format is looked for above."""
        rules, colon, image = name.partition(":")[2].partition(":")
        if not colon:
            raise UserError(f"'{name}' is not blkdebug:RULES:IMAGE (RULES may be empty)")
        return {"file": {"driver": cls.name, **({"config": rules} if rules else {}), "image": image}}

    def open(self) -> None:
        self.state = 1
        self.rules: list[Rule] = []
        self.active: list[dict[str, Any]] = []
        self.stopped: dict[str, threading.Event] = {}
        self.say: Callable[[str], None] = lambda text: None
        self.guard = threading.Condition()
        if path := self.options.get("config"):
            for kind, section in _sections(path):
                self.add(kind, section)
        for kind in ("inject-error", "set-state"):
            for given in _list(self.options.get(kind), kind):
                self.add(kind, given)
        self.event("none")

    def add(self, kind: str, given: Mapping[str, Any]) -> None:
        """A rule: `kind` is inject-error or set-state. Raises UserError."""
        said = values(INJECT if kind == "inject-error" else CHANGE, given, f"blkdebug {kind}")
        if said["event"] is None:
            raise UserError(f"{self.filename}: Missing event name for rule")
        if kind == "inject-error":
            self.rules.append(Rule(said["event"], said["state"], inject=said))
        else:
            self.rules.append(Rule(said["event"], said["state"], new_state=said["new_state"]))

    def event(self, name: str) -> None:
        """Something is about to happen: rules of this event come into force; returns when no breakpoint holds it any more."""
        waits: list[Rule] = []
        with self.guard:
            state, injected = self.state, False
            for rule in [each for each in self.rules if each.event == name and each.state in (0, state)]:
                if rule.tag:
                    waits.append(rule)
                    self.rules.remove(rule)
                elif rule.inject is not None:
                    self.active = [rule.inject, *(self.active if injected else [])]
                    injected = True
                else:
                    self.state = rule.new_state
        for rule in waits:
            self._stop(rule.tag)

    def _stop(self, tag: str) -> None:
        going = threading.Event()
        with self.guard:
            self.stopped[tag] = going
            self.say(f"blkdebug: Suspended request '{tag}'")
            self.guard.notify_all()
        going.wait()

    def breakpoint(self, event: str, tag: str) -> None:
        """Stop the next request that comes to `event`. Raises OSError(ENOENT) for an unknown event."""
        if event not in EVENTS:
            raise OSError(numbers.ENOENT, os.strerror(numbers.ENOENT))
        self.rules.append(Rule(event, tag=tag))

    def resume(self, tag: str) -> bool:
        """Let a stopped request go on; False when there is none."""
        with self.guard:
            going = self.stopped.pop(tag, None)
            if going is not None:
                self.say(f"blkdebug: Resuming request '{tag}'")
                going.set()
        return going is not None

    def remove_breakpoint(self, tag: str) -> bool:
        """Forget a breakpoint and let what it stopped go on; False when there is none."""
        with self.guard:
            before = len(self.rules)
            self.rules = [rule for rule in self.rules if rule.tag != tag]
            removed = len(self.rules) != before
        self.resume(tag)
        return removed

    def wait_stopped(self, tag: str) -> None:
        """Return when a request stands at the breakpoint."""
        with self.guard:
            self.guard.wait_for(lambda: tag in self.stopped)

    def _check(self, kind: str, offset: int = 0, length: int = 0) -> None:
        with self.guard:
            for rule in self.active:
                sector = rule["sector"] * SECTOR
                if rule["iotype"] not in (None, kind) or not (rule["sector"] < 0 or offset < sector + SECTOR and sector < offset + length):
                    continue
                if rule["once"]:
                    self.active.remove(rule)
                    self.rules = [each for each in self.rules if each.inject is not rule]
                if rule["errno"]:
                    raise OSError(rule["errno"], os.strerror(rule["errno"]))
                return

    def readv(self, offset: int, into: Vector) -> None:
        self._check("read", offset, into.length)
        self.file.readv(offset, into)

    def writev(self, offset: int, data: Vector) -> None:
        self.event("pwritev")
        self._check("write", offset, data.length)
        self.file.writev(offset, data)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self.event("pwritev_zero")
        self._check("write-zeroes", offset, length)
        self.file.zero(offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        self._check("discard", offset, length)
        self.file.discard(offset, length)

    def flush(self) -> None:
        self.event("flush_to_disk")
        self._check("flush")
        self.file.flush()


def find(node: Node | None) -> BlkDebug | None:
    """The first blkdebug on the way down from `node` to its bytes."""
    while node is not None and not isinstance(node, BlkDebug):
        node = getattr(node, "file", None)
    return node


def _list(said: Any, kind: str) -> list[Mapping[str, Any]]:
    """Rules as a list, or as the numbered pairs of --image-opts."""
    if said is None:
        return []
    found = [said[key] for key in sorted(said)] if isinstance(said, Mapping) and all(str(key).isdigit() for key in said) else said
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise UserError(f"blkdebug: {kind} is a list of rules ({kind}.0.event=NAME,…)")
    return found


def _sections(path: str) -> list[tuple[str, dict[str, str]]]:
    """The rules of a file in the manner of -readconfig. Raises UserError."""
    found: list[tuple[str, dict[str, str]]] = []
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Could not read blkdebug config file: {path}: {getattr(error, 'strerror', None) or error}") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        key, equals, value = text.partition("=")
        if text in ("[inject-error]", "[set-state]"):
            found.append((text[1:-1], {}))
        elif text and not text.startswith("#"):
            if not equals or not found:
                raise UserError(f"{path}:{number}: '{text}' is not [inject-error], [set-state] or KEY = \"VALUE\"")
            found[-1][1][key.strip()] = value.strip().strip('"')
    return found
