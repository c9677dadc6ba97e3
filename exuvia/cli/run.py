"""Boot a guest of the catalog, or a kernel of yours, with its console in this terminal.

exuvia run alpine                      an interactive shell; Ctrl-A x ends, Ctrl-A h shows the other keys
exuvia run alpine --exec 'uname -a'    run a command, print its output, end with its exit status
exuvia run alpine --disk disk.qcow2    the same with a disk: modprobe virtio_blk shows it as /dev/vda
exuvia run --kernel bzImage --initrd initrd.gz --append console=ttyS0
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable

from exuvia.backends.chardev.chardev import Chardev
from exuvia.cli import drive_options, keyval, listings
from exuvia.cli.cpu import described
from exuvia.cli.targets import TARGETS
from exuvia.guests import cache
from exuvia.guests.catalog import Guest, guest
from exuvia.guests.console import ExecConsole
from exuvia.machines.config import ChardevConfig, MachineConfig
from exuvia.machines.machine import Machine
from exuvia.support.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("guest", nargs="?", help="a name from 'exuvia guests'")
    parser.add_argument("--kernel", metavar="FILE", help="a kernel of your own")
    parser.add_argument("--initrd", metavar="FILE", help="its initial RAM disk")
    parser.add_argument("--append", metavar="TEXT", help="the kernel's command line (for a guest: more of it, in front)")
    parser.add_argument("--disk", metavar="FILE", action="append", default=[], help="a disk image, /dev/vda; again for the next")
    parser.add_argument("--exec", metavar="CMD", dest="command", help="run CMD in the guest's shell instead of an interactive one")
    parser.add_argument("--memory", metavar="SIZE", help="MiB, or with K, M, G (default: what the guest needs, else 512)")
    parser.add_argument("--cpu", metavar="MODEL[,-FEATURE]", help="the processor model, as in max,-sse4_2; max has all")
    parser.add_argument(
        "--accel", metavar="NAME[:NAME]", default="software", help="software, or kvm, or kvm:software for the first that works"
    )
    parser.add_argument("--smp", metavar="N", type=int, default=1, help="the number of processors (default 1)")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, help="with --exec: give up after so long")
    parser.add_argument("--verbose", action="store_true", help="with --exec: show the boot messages on standard error")


Ready = Callable[[Machine, ExecConsole | None], object]


def run(args: argparse.Namespace, ready: Ready = lambda machine, console: None) -> int:
    """Fetch what is needed, then run it; `ready` is called before the start."""
    if bool(args.guest) == bool(args.kernel):
        raise UserError("run needs either the name of a guest or --kernel FILE")
    chosen = guest(args.guest) if args.guest else None
    if args.command is not None and (chosen is None or not chosen.shell):
        raise UserError("--exec needs a guest with a shell" + (f", {chosen.name} has none" if chosen else ""))
    if chosen is None:
        return _interactive(_config(args, None, {"kernel": args.kernel, "initrd": args.initrd}, args.append or ""), ready)
    if args.command is None and (args.timeout is not None or args.verbose):
        raise UserError(f"{'--verbose' if args.verbose else '--timeout'} belongs to --exec")
    if args.timeout is not None and not 0 < args.timeout < threading.TIMEOUT_MAX:
        raise UserError(f"--timeout: {args.timeout:g} is no number of seconds to wait")
    if args.initrd:
        raise UserError("--initrd belongs to --kernel")

    from exuvia.cli.progress import Progress

    with Progress(f"Fetching {chosen.title}") as progress:
        files = {role: str(path) for role, path in cache.fetch(chosen, progress).items()}
    before = f"{args.append} " if args.append else ""
    if args.command is None:
        return _interactive(_config(args, chosen, files, before + chosen.command_line()), ready)
    return _execute(args, chosen, files, before, ready)


def _config(args: argparse.Namespace, chosen: Guest | None, files: dict[str, str], append: str) -> MachineConfig:
    target = TARGETS[chosen.target if chosen else "x86_64"]
    cpu, features = described("--cpu", target.architecture, args.cpu or target.cpu)
    disks = [drive_options.drive(f"file={file.replace(',', ',,')},if=virtio", number) for number, file in enumerate(args.disk)]
    return MachineConfig(
        accel=tuple(listings.accelerator(name) for name in args.accel.split(":")),
        cpu=cpu,
        cpu_features=tuple(features),
        machine=target.machine,
        bits=target.bits,
        order=target.order,
        smp=args.smp,
        memory=_memory(args.memory) if args.memory else (chosen.memory if chosen else 512) << 20,
        kernel=files["kernel"],
        initrd=files.get("initrd"),
        append=append,
        serial=("console",),
        drives=tuple(drive for drive, _ in disks),
        devices=tuple(device for _, device in disks if device is not None),
        no_reboot=args.command is not None,
        name=chosen.name if chosen else "",
    )


def _memory(text: str) -> int:
    try:
        return keyval.size(text)
    except UserError as error:
        raise UserError(f"--memory: {error}") from None


def _interactive(config: MachineConfig, ready: Ready) -> int:
    from dataclasses import replace

    from exuvia.cli.launch import launch

    options = (("mux", "on"), ("signal", "off"))
    config = replace(config, chardevs=(ChardevConfig(id="console", kind="stdio", options=options),), monitors=("console",))
    if sys.stdin.isatty():
        print("Ctrl-A x ends the machine, Ctrl-A c switches to its monitor, Ctrl-A h shows all keys.", file=sys.stderr)
    return launch("exuvia", config, ready=lambda machine: ready(machine, None))


def _execute(args: argparse.Namespace, chosen: Guest, files: dict[str, str], before: str, ready: Ready) -> int:
    from exuvia.cli.launch import launch

    console = ExecConsole(args.command, _print, _boot_display(args.verbose))
    console.id = "console"
    own: list[Chardev] = [console]
    expired = []

    def watch(machine: Machine) -> None:
        ready(machine, console)
        if args.timeout is not None:

            def expire() -> None:
                expired.append(True)
                machine.exit(1)

            timer = threading.Timer(args.timeout, expire)
            timer.daemon = True
            timer.start()

    status = launch("exuvia", _config(args, chosen, files, before + chosen.command_line(console.first)), own, watch)
    if console.done:
        return console.status
    if expired:
        raise UserError(f"{chosen.name} was not done after {args.timeout:g} seconds; it said: {console.last_words()}")
    if status:
        return status
    if console.started:
        raise UserError(f"{chosen.name} ended during the command")
    raise UserError(f"{chosen.name} did not reach its shell; the last that it said: {console.last_words()}")


def _print(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def _boot_display(verbose: bool) -> Callable[[bytes], object]:
    """What shows the boot: every message, or on a terminal the last line in place."""
    if not verbose and not sys.stderr.isatty():
        return lambda console: None
    import shutil

    def messages(new: bytes) -> None:
        sys.stderr.buffer.write(new)
        sys.stderr.flush()

    def line(new: bytes) -> None:
        text = new.decode("utf-8", "replace").rstrip("\r\n").rpartition("\n")[2].strip()
        shown = "".join(char for char in text if char.isprintable())[: shutil.get_terminal_size().columns - 1]
        print(f"\r{shown}", end="\x1b[K", file=sys.stderr, flush=True)

    return messages if verbose else line
