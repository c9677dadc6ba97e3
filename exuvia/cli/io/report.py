"""What is printed about a request: how much, where, how fast; and what was read."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def amount(value: float) -> str:
    """A number of bytes, or of bytes a second, with a unit of 1024s."""
    for power, unit in ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value >= 1 << power:
            return f"{value / (1 << power):.3f}".partition(".000")[0] + f" {unit}"
    text = f"{value:f}"
    return (text.partition(".000")[0] if ".000" in text else text) + " bytes"


def clock(seconds: float, exact: bool) -> str:
    """A time: hours where there are some, or always where `exact`."""
    whole, hundredths = int(seconds), int(seconds * 100) % 100
    if exact or whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{hundredths:02}"
    if whole >= 60:
        return f"{whole // 60:02}:{whole % 60:02}.{hundredths:02}"
    return f"{whole:02}.{hundredths:02} sec"


def done(verb: str, seconds: float, offset: int, count: int, machine: bool) -> str:
    """One operation on `count` bytes at `offset`; `machine`: -C, a line to be parsed."""
    seconds = max(seconds, 1e-9)
    if machine:
        return f"{count},1,{clock(seconds, True)},{count / seconds:.3f},{1 / seconds:.3f}"
    rate = f"{amount(count / seconds)}/sec and {1 / seconds:.4f} ops/sec"
    return f"{verb} {count}/{count} bytes at offset {offset}\n{amount(count)}, 1 ops; {clock(seconds, False)} ({rate})"


def dump(data: bytes, offset: int) -> Iterator[str]:
    """Lines of sixteen bytes, as numbers and as characters."""
    for at in range(0, len(data), 16):
        line = data[at : at + 16]
        shown = "".join(chr(byte) if 32 < byte < 127 else "." for byte in line)
        yield f"{offset + at:08x}:  {' '.join(f'{byte:02x}' for byte in line)}  {shown}"
