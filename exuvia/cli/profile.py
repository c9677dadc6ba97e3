"""Run a guest and say where its time goes: interpreter, regions, slow paths, devices, compiling; and its hottest code.

exuvia profile alpine --exec 'sha256sum /bin/busybox' --skip-boot
exuvia profile alpine --seconds 10 --top 3
exuvia profile --kernel bzImage --append 'console=ttyS0 nokaslr' --symbols System.map

The options of 'exuvia run' go too. Samples are of the processor time of the thread in which the guest runs; compile workers are told apart.
"""

import argparse
import threading
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exuvia.cli import run as running
from exuvia.guests.console import ExecConsole
from exuvia.machines.machine import Machine
from exuvia.support.errors import UserError

if TYPE_CHECKING:
    from exuvia.vcpu.profile import Profile, Spent
    from exuvia.vcpu.symbols import Symbols

GUEST_WIDTH = 64
REGISTERS = 12  # lines of the table of devices


def arguments(parser: argparse.ArgumentParser) -> None:
    """Those of run, and how long, how much, with which names."""
    running.arguments(parser)
    parser.add_argument("--seconds", metavar="N", type=float, help="end after so long (default: when the guest does)")
    parser.add_argument("--skip-boot", action="store_true", help="with --exec: begin with the command")
    parser.add_argument("--top", metavar="N", type=int, default=5, help="how many of the hottest blocks to show (default 5)")
    parser.add_argument("--lines", metavar="N", type=int, default=40, help="at most so many lines of code of each (default 40)")
    parser.add_argument("--symbols", metavar="FILE", type=Path, help="names: System.map, or the guest's /proc/kallsyms")


def run(args: argparse.Namespace) -> int:
    """Run the guest, then print the report; the guest's status."""
    from exuvia.vcpu.profile import Profile
    from exuvia.vcpu.symbols import Symbols, load

    for name in ("top", "lines"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)}: give 0 or more")
    if args.seconds is not None and args.seconds <= 0:
        raise UserError(f"--seconds {args.seconds:g}: give more than 0")
    if args.skip_boot and args.command is None:
        raise UserError("--skip-boot needs --exec CMD: without a command nobody knows when the boot is over")
    symbols = load(args.symbols) if args.symbols else Symbols()
    profiles: list[Profile] = []
    stopped = threading.Event()

    def ready(machine: Machine, console: ExecConsole | None) -> None:
        profiles.append(Profile(machine, lambda: console is None or console.started or not args.skip_boot))
        if args.seconds is not None:

            def stop() -> None:
                stopped.set()
                machine.exit(0)

            timer = threading.Timer(args.seconds, stop)
            timer.daemon = True
            timer.start()
            machine.at_end.append(timer.cancel)

    try:
        status = running.run(args, ready)
    except UserError:
        if not stopped.is_set():  # a command that is not done by then is no mistake
            raise
        status = 0
    finally:
        for profile in profiles:
            print("\n".join(report(profile, symbols, args.top, args.lines)), flush=True)
    return status


def report(profile: "Profile", symbols: "Symbols", top: int, lines: int) -> Iterator[str]:
    """The whole report, line by line."""
    total = profile.shares.total()
    if not total:
        yield "profile: no samples: the guest ran for too short a time"
        return
    seconds = profile.cpu_seconds
    yield ""
    yield f"{seconds:.2f} s of processor time in {profile.wall_seconds:.2f} s, {total:,} samples"
    instructions = profile.counted["instructions"]
    yield f"{instructions:,} guest instructions, {instructions / seconds / 1e6:.0f} million a second"
    yield ""
    yield "share   seconds  where"
    for where, count in profile.shares.most_common():
        yield f"{count / total:6.1%} {seconds * count / total:8.2f}  {where}"
    if profile.sampler.lost:
        yield f"{profile.sampler.lost:,} samples were lost"
    yield from functions(profile, total)
    yield from devices(profile)
    yield from exits(profile)
    yield from compiling(profile)
    for number, spent in enumerate(profile.hottest(top), 1):
        yield ""
        yield from block(profile, spent, symbols, total, number, lines)


def functions(profile: "Profile", total: int) -> Iterator[str]:
    """The soft floats that took longest."""
    if profile.functions:
        yield ""
        yield "share   soft float"
        for name, count in profile.functions.most_common(REGISTERS):
            yield f"{count / total:6.1%}  {name}"


def devices(profile: "Profile") -> Iterator[str]:
    """The registers that took longest."""
    if profile.accesses:
        yield ""
        yield " seconds     reads    writes  device register"
        found = sorted(profile.accesses.items(), key=lambda pair: -pair[1].time)
        for (device, register), a in found[:REGISTERS]:
            yield f"{a.time / 1e9:8.3f} {a.reads:9,} {a.writes:9,}  {device} {register}"
        if len(found) > REGISTERS:
            rest = [a for _, a in found[REGISTERS:]]
            sums = sum(a.time for a in rest) / 1e9, sum(a.reads for a in rest), sum(a.writes for a in rest)
            yield f"{sums[0]:8.3f} {sums[1]:9,} {sums[2]:9,}  {len(rest)} others"


def exits(profile: "Profile") -> Iterator[str]:
    """Why native code was left."""
    counts = {name: count for name, count in profile.counted.items() if name.startswith("exits ") and count}
    yield ""
    yield "exits: " + ", ".join(f"{name[6:]} {counts[name]:,}" for name in sorted(counts, key=lambda name: -counts[name]))
    yield f"TLB misses: {profile.counted['TLB misses']:,}"


def compiling(profile: "Profile") -> Iterator[str]:
    """What became of regions."""
    n = profile.counted
    yield (
        f"regions: {n['regions made']} made in {n['region compile ms'] / 1000:.1f} s by workers, {n['store hits']} found, "
        f"{n['regions installed']} put into place, {n['regions made too late']} too late, {n['regions not made']} not made, "
        f"{n['regions dropped']} dropped"
    )
    yield f"handlers compiled: {n['handlers compiled now']}"


def block(profile: "Profile", spent: "Spent", symbols: "Symbols", total: int, number: int, lines: int) -> Iterator[str]:
    """One of the hottest: its guest code, and beside it a region's host code with the share of each instruction."""
    name = symbols.name(spent.linear)
    kind = f"region of {len(spent.blocks)} blocks, {len(spent.code)} bytes" if spent.code else "block, interpreted"
    yield f"{number}. {spent.total / total:.1%}  {spent.linear:#018x} {name + ' ' if name else ''}({kind})"
    rows = [Row(0, f"{linear:#018x}: {text}") for linear, text in profile.guest(spent)] or [Row(0, "(its code is gone)")]
    if spent.code:
        rows = side_by_side(profile, spent, rows)
    starts = [k for k, row in enumerate(rows) if row.guest] or [0]
    first = max(starts, key=lambda k: sum(row.samples for row in rows[k : k + lines]))
    first = min(first, max(0, len(rows) - lines))
    chosen = rows[first : first + lines]
    for row in chosen:
        share = f"{row.samples / spent.total:6.1%}" if row.samples else ""
        yield f"    {row.guest:<{GUEST_WIDTH}} {share:6} {row.host}".rstrip()
    if len(rows) > len(chosen):
        yield f"    ({len(rows) - len(chosen)} more lines)"


class Row(NamedTuple):
    """A line: samples, guest code, host code."""

    samples: int
    guest: str
    host: str = ""


def side_by_side(profile: "Profile", spent: "Spent", guest: list[Row]) -> list[Row]:
    """Each guest instruction with the host's that were made for it; of those behind cold edges only where samples hit."""
    found = profile.host(spent)
    if found is None:
        return [Row(0, "(for the host's code: pip install 'exuvia[profile]')"), *guest]
    code, lines = found
    rows = [Row(sum(spent.samples[at] for at in range(h.at, h.at + h.size)), "", f"{h.at:5x}: {h.text}") for h in code]
    if lines is None:  # not known which belongs to which
        pairs = zip_longest(guest, rows, fillvalue=Row(0, ""))
        return [Row(right.samples, left.guest, right.host) for left, right in pairs]
    belongs: dict[int | None, list[Row]] = {}
    for line, row in zip(lines, rows, strict=True):
        if line and (not line.cold or row.samples):
            belongs.setdefault(line.place, []).append(row)
        elif row.samples:
            belongs.setdefault(None, []).append(row)
    whole = [Row(row.samples, "(entering and leaving)", row.host) for row in belongs.get(None, [])]
    for left in guest:
        place = int(left.guest.partition(":")[0], 16) - spent.page
        first, *more = belongs.get(place, [Row(0, "")])
        whole += [Row(first.samples, left.guest, first.host), *more]
    return whole
