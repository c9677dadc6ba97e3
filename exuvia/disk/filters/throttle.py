"""throttle: bytes and requests per second have limits, which nodes of one group share (QEMU, docs/throttle: the leaky bucket).

--object throttle-group,id=ID,x-iops-total=100,x-bps-total-max=…   driver=throttle,throttle-group=ID,file.driver=…
"""

import threading
import time
from collections.abc import Mapping

from exuvia.disk import objects
from exuvia.disk.filter import Filter
from exuvia.disk.options import Option, size
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

BURST = 10  # the part of a second whose amount may come at once where no burst is allowed


class Bucket:
    """`rate` a second leak out; `most` a second may come for `seconds` while the bucket is not full (0: a tenth of a second's worth)."""

    def __init__(self, rate: float, most: float = 0, seconds: int = 1) -> None:
        self.rate, self.most, self.seconds = rate, most, seconds
        self.level = self.burst = 0.0
        self.last = time.monotonic()

    def wait(self) -> float:
        """Seconds until there is room for more."""
        now = time.monotonic()
        passed, self.last = now - self.last, now
        self.level = max(0.0, self.level - self.rate * passed)
        if not self.most:
            return max(0.0, (self.level - self.rate / BURST) / self.rate)
        if self.seconds > 1:
            self.burst = max(0.0, self.burst - self.most * passed)
            if self.burst > self.most / BURST:
                return max((self.burst - self.most / BURST) / self.most, (self.level - self.most * self.seconds) / self.rate)
        return max(0.0, (self.level - self.most * self.seconds) / self.rate)

    def add(self, amount: float) -> None:
        """Something came."""
        self.level += amount
        if self.most and self.seconds > 1:
            self.burst += amount


class Group:
    """The limits of one throttle-group. Requests wait in the order in which they come."""

    def __init__(self, name: str, said: Mapping[str, str]) -> None:
        self.said = said
        numbers = {
            key.removeprefix("x-").removeprefix("limits."): _number(name, key, text) for key, text in said.items() if key != "qom-type"
        }
        self.unit = numbers.get("iops-size", 0)
        self.buckets: dict[str, Bucket] = {}
        for kind in ("bps", "iops"):
            for what in ("total", "read", "write"):
                key = f"{kind}-{what}"
                rate, most, seconds = numbers.get(key, 0), numbers.get(f"{key}-max", 0), numbers.get(f"{key}-max-length", 1)
                if most and not rate:
                    raise UserError(f"throttle-group '{name}': bps_max/iops_max require corresponding bps/iops values ({key} is missing)")
                if most and most < rate:
                    raise UserError(f"throttle-group '{name}': bps_max/iops_max cannot be lower than bps/iops ({key})")
                if seconds > 1 and not most:
                    raise UserError(f"throttle-group '{name}': burst length set without burst rate ({key})")
                if rate:
                    self.buckets[key] = Bucket(rate, most, max(1, seconds))
            if f"{kind}-total" in self.buckets and {f"{kind}-read", f"{kind}-write"} & self.buckets.keys():
                raise UserError(f"throttle-group '{name}': bps/iops/max total values and read/write values cannot be used at the same time")
        self._turn = threading.Lock()

    def pass_through(self, length: int, writes: bool) -> None:
        """Return when `length` bytes may be read or written."""
        if not self.buckets:
            return
        what = "write" if writes else "read"
        requests = max(1.0, length / self.unit) if self.unit else 1.0
        with self._turn:
            mine = [(self.buckets.get(f"{kind}-{each}"), amount)
                    for kind, amount in (("bps", float(length)), ("iops", requests)) for each in ("total", what)]  # fmt: skip
            while (delay := max((bucket.wait() for bucket, _ in mine if bucket), default=0)) > 0:
                time.sleep(delay)
            for bucket, amount in mine:
                if bucket:
                    bucket.add(amount)


_groups: dict[str, Group] = {}
_guard = threading.Lock()


def group(name: str) -> Group:
    """The group that the object `name` describes. Raises UserError."""
    said = objects.properties(name, "throttle-group")
    with _guard:
        known = _groups.get(name)
        if known is None or known.said is not said:
            known = _groups[name] = Group(name, said)
        return known


def _number(name: str, key: str, text: str) -> int:
    try:
        return size(text)
    except UserError as error:
        raise UserError(f"throttle-group '{name}': {key}: {error}") from None


class Throttle(Filter):
    """Reads, writes, zeroes and discards count; flushes pass."""

    name = "throttle"
    OPTIONS = (Option("throttle-group", str, None, "the id of the group whose limits hold"),)

    def open(self) -> None:
        if self.options.get("throttle-group") is None:
            raise UserError(f"{self.filename}: Parameter 'throttle-group' is missing (--object throttle-group,id=ID,x-iops-total=…)")
        self.group = group(self.options["throttle-group"])

    def readv(self, offset: int, into: Vector) -> None:
        self.group.pass_through(into.length, False)
        self.file.readv(offset, into)

    def writev(self, offset: int, data: Vector) -> None:
        self.group.pass_through(data.length, True)
        self.file.writev(offset, data)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self.group.pass_through(length, True)
        self.file.zero(offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        self.group.pass_through(length, True)
        self.file.discard(offset, length)
