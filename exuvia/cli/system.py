"""`exuvia-system-NAME` for each target, and `exuvia-kvm`: QEMU's command line (QEMU, System Emulation, Invocation)."""

from collections.abc import Sequence
from typing import NoReturn

from exuvia.cli import absent
from exuvia.cli.draft import Answered, Draft
from exuvia.cli.drive_options import no_ide
from exuvia.cli.options import OPTIONS, takes_value
from exuvia.cli.program import start
from exuvia.cli.targets import TARGETS
from exuvia.support import log
from exuvia.support.errors import UserError, unknown


def parse(program: str, target: str, arguments: Sequence[str]) -> Draft:
    """Fill a draft from the command line. Raises UserError for what there is not, Answered for a question (`-cpu help`)."""
    draft = Draft(program, TARGETS[target])
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            raise no_ide(f"argument '{word}'", word)
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name not in OPTIONS:
            absent.option(name)
            raise unknown("option", f"-{name}", [f"-{option}" for option in OPTIONS])
        function = OPTIONS[name]
        if not takes_value(function):
            if equals:
                raise UserError(f"option -{name} takes no value")
            function(draft)
            continue
        if not equals:
            if not rest:
                raise UserError(f"option -{name} needs a value")
            value = rest.pop(0)
            if value.startswith("-") and value.lstrip("-") in OPTIONS:
                raise UserError(f"option -{name} needs a value, and {value} is an option (-{name}={value} if it is meant)")
        function(draft, value)
    return draft


def run(program: str, target: str, arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    try:
        draft = parse(program, target, arguments)
    except Answered as answer:
        print(answer.text, end="")
        return 0
    config = draft.config()
    if draft.log_items or draft.log_file:
        log.configure(draft.log_items, draft.log_file)

    from exuvia.cli import process
    from exuvia.cli.launch import launch

    if draft.timestamps:
        process.date_messages()
    if draft.process:
        process.call_it(draft.process)
    begun = process.in_background() if draft.background else None
    with process.numbered(draft.pidfile):
        return launch(program, config, ready=lambda machine: machine.post(begun) if begun else None)


def _system(target: str) -> NoReturn:
    start(program := f"exuvia-system-{target}", lambda arguments: run(program, target, arguments))


def x86_64() -> NoReturn:
    """A PC with 64-bit processors."""
    _system("x86_64")


def i386() -> NoReturn:
    """The same PC with 32-bit processors."""
    _system("i386")


def aarch64() -> NoReturn:
    """The board `virt` with 64-bit Arm processors."""
    _system("aarch64")


def mips() -> NoReturn:
    """A Malta board with big-endian processors."""
    _system("mips")


def mipsel() -> NoReturn:
    """The same board, little-endian."""
    _system("mipsel")


def kvm() -> NoReturn:
    """Debian's `kvm`: a PC on the host's own processor."""
    start("exuvia-kvm", lambda arguments: run("exuvia-kvm", "x86_64", ["-enable-kvm", *arguments]))
