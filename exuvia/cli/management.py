"""Options that programs write which start machines, libvirt above all; options.py has the others, and says how they are made.

Some only say how things are here anyway. They are taken when that is true, and refused when they ask for something else.
"""

import os
import re

from exuvia.cli import keyval, memory
from exuvia.cli.devices import described_global
from exuvia.cli.draft import Draft
from exuvia.support.errors import UserError

ACTIONS = {
    "reboot": "reset shutdown",
    "shutdown": "poweroff pause",
    "panic": "pause shutdown exit-failure none",
    "watchdog": "reset shutdown poweroff pause debug none inject-nmi",
}


def opt_name(draft: Draft, value: str) -> None:
    """NAME[,process=NAME][,debug-threads=on|off]: a name for the machine, and for the process; threads have theirs anyway"""
    said = keyval.only("name", keyval.parse(value, "guest"), ("guest", "process", "debug-threads"))
    keyval.switch("-name: debug-threads", said.get("debug-threads", "off"))
    draft.name, draft.process = said.get("guest", draft.name), said.get("process", draft.process)


def opt_no_user_config(draft: Draft) -> None:
    """read no configuration files, of which there are none"""


def opt_msg(draft: Draft, value: str) -> None:
    """timestamp=on|off: messages begin with the time"""
    said = keyval.only("msg", keyval.parse(value), ("timestamp",))
    draft.timestamps = keyval.switch("-msg: timestamp", said["timestamp"])


def opt_pidfile(draft: Draft, value: str) -> None:
    """FILE: the number of the process, until it ends"""
    draft.pidfile = value


def opt_daemonize(draft: Draft) -> None:
    """go on in the background, without terminal, once the machine is there and its lines are open"""
    draft.background = True


def opt_L(draft: Draft, value: str) -> None:
    """FOLDER: where -bios FILE is looked for too; again for the next folder"""
    draft.folders.append(value)


def opt_action(draft: Draft, value: str) -> None:
    """[reboot=reset|shutdown][,shutdown=poweroff|pause]: -no-reboot and -no-shutdown; panic= and watchdog= have no effect, as no device
    reports either"""
    for key, text in keyval.only("action", keyval.parse(value), ACTIONS).items():
        words = ACTIONS[key].split()
        if text not in words:
            raise UserError(f"-action: {key} is {' or '.join(words)}, not '{text}'")
        if key == "reboot":
            draft.no_reboot = text == "shutdown"
        elif key == "shutdown":
            draft.no_shutdown = text == "pause"


def opt_overcommit(draft: Draft, value: str) -> None:
    """mem-lock=off,cpu-pm=off: the guest's memory is not locked, its idle states are not the host's"""
    for key, text in keyval.only("overcommit", keyval.parse(value), ("mem-lock", "cpu-pm")).items():
        if keyval.switch(f"-overcommit: {key}", text):
            raise UserError(
                f"-overcommit: {key} can only be off: {'memory is not locked' if key == 'mem-lock' else 'HLT is not passed on'}"
            )


def opt_sandbox(draft: Draft, value: str) -> None:
    """off: there is no seccomp filter; confine the process from outside"""
    if keyval.switch("-sandbox", keyval.parse(value, "enable")[0][1]):
        raise UserError("-sandbox on: there is no seccomp filter: leave it out and confine the process from outside, as by systemd-run")


def opt_boot(draft: Draft, value: str) -> None:
    """[order=LETTERS][,once=LETTERS][,menu=off][,strict=on|off]: firmware boots from disks (c), by their bootindex; strict:
    from none that has no bootindex, where one has"""
    for key, text in keyval.only("boot", keyval.parse(value, "order"), ("order", "once", "menu", "strict")).items():
        if key in ("order", "once"):
            if not re.fullmatch(r"[a-p]+", text):
                raise UserError(f"-boot: {key} is letters, of which c is the disks, not '{text}'")
            if "c" not in text:
                raise UserError(f"-boot: {key}={text} has no c, the disks, and nothing else can be booted from")
        elif key == "strict":
            draft.strict_boot = keyval.switch("-boot: strict", text)
        elif keyval.switch("-boot: menu", text):
            raise UserError("-boot: menu can only be off: there is no keyboard for it")


def opt_global(draft: Draft, value: str) -> None:
    """DEVICE.PROPERTY=VALUE: a property of every -device of that name which does not set it"""
    if (default := described_global(value)) is not None:
        draft.globals.append(default)


def opt_object(draft: Draft, value: str) -> None:
    """KIND,id=ID[,KEY=VALUE] or JSON: memory-backend-ram and -memfd (for -machine memory-backend=ID), iothread (no effect), secret and
    what else images and servers of images want"""
    from exuvia.disk import objects

    (_, kind), *pairs = keyval.described("-object", value, "qom-type")
    option = f"-object {kind}"  # no more of it: a secret may be in there
    if kind.startswith(memory.PREFIX):
        id, size = memory.backend(option, kind.removeprefix(memory.PREFIX), pairs)
        draft.backends[id] = size
        if not keyval.switch(f"{option}: dump", dict(pairs).get("dump", "on")):
            draft.machine_options.append(("dump-guest-core", "off"))
    elif kind == "iothread":
        if not (id := keyval.only("object", pairs, ("id", "poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")).get("id", "")):
            raise UserError(f"{option}: it needs id=ID")
        draft.iothreads.add(id)
    elif kind in objects.KINDS:
        try:
            objects.define(value)
        except UserError as error:
            raise UserError(f"{option}: {str(error).partition(chr(10))[0]}") from None
    else:
        there = ", ".join(("memory-backend-ram", "memory-backend-memfd", "iothread", *objects.KINDS))
        raise UserError(f"{option}: there is no such kind of object; there are {there}")


def opt_numa(draft: Draft, value: str) -> None:
    """node[,cpus=FIRST-LAST][,mem=SIZE][,memdev=ID]: the one node, with all processors and all memory"""
    draft.nodes.append(memory.node(value))


def opt_mon(draft: Draft, value: str) -> None:
    """ID[,mode=readline]: a monitor on -chardev ID"""
    said = keyval.only("mon", keyval.parse(value, "chardev"), ("chardev", "id", "mode", "pretty"))
    if said.get("mode", "readline") != "readline":
        raise UserError(f"-mon {value}: mode can only be readline, for people: there is no QMP")
    if not said.get("chardev"):
        raise UserError(f"-mon {value}: it needs chardev=ID")
    draft.monitors.append(f"chardev:{said['chardev']}")


def opt_fw_cfg(draft: Draft, value: str) -> None:
    """[name=]NAME,file=FILE|string=TEXT: what the guest finds in its fw_cfg under NAME, which begins with opt/"""
    option = f"-fw_cfg {value}"
    said = keyval.only("fw_cfg", keyval.parse(value, "name"), ("name", "file", "string"))
    if not said.get("name") or ("file" in said) == ("string" in said):
        raise UserError(f"{option}: it needs name=NAME and either file=FILE or string=TEXT")
    if not said["name"].startswith("opt/"):
        raise UserError(f"{option}: names of the user's begin with opt/, the others are the machine's")
    draft.files.append((said["name"], said["file"] if "file" in said else os.fsencode(said["string"])))


def opt_no_hpet(draft: Draft) -> None:
    """a pc without high precision event timers: -machine hpet=off"""
    if draft.target.architecture != "x86":
        raise UserError(f"-no-hpet: a {draft.machine} has none")
    draft.machine_options.append(("hpet", "off"))


def opt_no_acpi(draft: Draft) -> None:
    """firmware of a virt finds no ACPI tables: -machine acpi=off"""
    draft.machine_options.append(("acpi", "off"))


def opt_no_fd_bootchk(draft: Draft) -> None:
    """no look at floppy disks' signatures, and there are none"""


def _none(option: str, value: str, what: str) -> None:
    if value != "none":
        raise UserError(f"-{option} {value}: there is no {what} yet, so it can only be none")


def opt_vga(draft: Draft, value: str) -> None:
    """none: no graphics card, the only choice"""
    _none("vga", value, "screen")


def opt_net(draft: Draft, value: str) -> None:
    """none: no network, the only choice"""
    _none("net", value, "network")


def opt_nic(draft: Draft, value: str) -> None:
    """none: no network card, the only choice"""
    _none("nic", value, "network")


def opt_parallel(draft: Draft, value: str) -> None:
    """none: no parallel port, the only choice"""
    _none("parallel", value, "parallel port")


def opt_vnc(draft: Draft, value: str) -> None:
    """none: no screen, the only choice"""
    _none("vnc", value, "screen")


def opt_qmp(draft: Draft, value: str) -> None:
    """none: no monitor for programs, the only choice; -monitor is for people"""
    _none("qmp", value, "QMP")


def opt_gdb(draft: Draft, value: str) -> None:
    """none: no port for a debugger, the only choice"""
    _none("gdb", value, "port for a debugger")


def opt_audiodev(draft: Draft, value: str) -> None:
    """none,id=ID or JSON: no sound, the only choice"""
    _none("audiodev", keyval.described("-audiodev", value, "driver")[0][1], "sound")
