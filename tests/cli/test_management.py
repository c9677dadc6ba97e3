"""What libvirt writes: its whole command lines, and each option that is taken only as far as it is true."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.cli.system import parse
from exuvia.disk.objects import remove
from exuvia.machines.config import ChardevConfig, DriveConfig, MachineConfig
from exuvia.support.errors import UserError


def config(*words: str, target: str = "x86_64") -> MachineConfig:
    return parse("test", target, words).config()


@pytest.fixture
def objects() -> Iterator[None]:
    """What is defined is forgotten again."""
    yield
    remove("masterKey0")


def test_a_domain_of_libvirts(objects: None) -> None:
    """As libvirt 9 writes it, without what this machine has not (QMP, sandbox, USB, network, balloon)."""
    made = config(
        *("-name", "guest=demo,debug-threads=on", "-S"),
        *("-object", '{"qom-type":"secret","id":"masterKey0","format":"raw","data":"0123"}'),
        *("-machine", "pc-i440fx-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram,hpet=off,acpi=on", "-accel", "tcg"),
        *("-cpu", "qemu64", "-m", "size=524288k"),
        *("-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":536870912}'),
        *("-overcommit", "mem-lock=off", "-smp", "2,sockets=2,cores=1,threads=1", "-uuid", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"),
        *("-no-user-config", "-nodefaults", "-rtc", "base=utc,driftfix=slew", "-no-shutdown"),
        *("-global", "kvm-pit.lost_tick_policy=delay", "-global", "PIIX4_PM.disable_s3=1", "-global", "PIIX4_PM.disable_s4=1"),
        *("-boot", "strict=on", "-kernel", "k", "-append", "console=ttyS0"),
        *("-blockdev", '{"driver":"file","filename":"x","node-name":"s","auto-read-only":true,"discard":"unmap"}'),
        *("-blockdev", '{"node-name":"f","read-only":false,"driver":"qcow2","file":"s","backing":null}'),
        *("-device", '{"driver":"virtio-blk-pci","bus":"pci.0","addr":"0x2","drive":"f","id":"virtio-disk0","bootindex":1}'),
        *("-chardev", "pty,id=charserial0"),
        *("-device", '{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}'),
        *("-audiodev", '{"id":"audio1","driver":"none"}', "-msg", "timestamp=on", "-vga", "none", "-display", "none"),
    )
    assert (made.machine, made.cpu, made.smp, made.memory, made.name, made.paused) == ("pc", "qemu64", 2, 512 << 20, "demo", True)
    assert made.machine_options == (("usb", "off"), ("dump-guest-core", "off"), ("hpet", "off"), ("acpi", "on"))
    assert made.strict_boot
    assert [device.name for device in made.devices] == ["virtio-blk-pci", "isa-serial"]
    assert [drive.id for drive in made.drives] == ["f"]
    assert made.chardevs == (ChardevConfig(id="charserial0", kind="pty"),)


def test_firmware_as_nodes_of_the_machine() -> None:
    made = config(
        *("-machine", "virt-7.2,usb=off,gic-version=3,pflash0=code,pflash1=vars"),
        *("-blockdev", "driver=raw,node-name=code,file.driver=file,file.filename=x,read-only=on"),
        *("-drive", "if=none,id=vars,file=y"),
        target="aarch64",
    )
    assert {drive.id: drive.flash for drive in made.drives} == {"code": 0, "vars": 1}
    with pytest.raises(UserError, match="unknown drive or node in -machine pflash0 'cod'"):
        config("-machine", "virt,pflash0=cod", "-drive", "if=none,id=code,file=y", target="aarch64")


def test_other_ways_to_name_a_kernel() -> None:
    made = config("-machine", "pc,kernel=k,initrd=i,append=a=b", "-machine", "pc-i440fx-rhel7.6.0")
    assert (made.machine, made.kernel, made.initrd, made.append) == ("pc", "k", "i", "a=b")
    with pytest.raises(UserError, match="unknown machine 'pc-q35-7.2'"):
        config("-machine", "pc-q35-7.2")


def test_a_monitor_on_a_chardev() -> None:
    made = config("-chardev", "stdio,id=c,mux=on", "-mon", "chardev=c,mode=readline", "-serial", "chardev:c")
    assert (made.serial, made.monitors) == (("c",), ("c",))


def test_files_for_firmware() -> None:
    made = config("-fw_cfg", "name=opt/a,string=b=c,,d", "-fw_cfg", "opt/e,file=f")
    assert made.files == (("opt/a", b"b=c,d"), ("opt/e", "f"))


def test_drives_that_are_no_flash_stay_so() -> None:
    assert config("-drive", "file=c,if=none,id=d").drives == (DriveConfig(id="d", image="c", option="-drive file=c,if=none,id=d"),)


@pytest.mark.parametrize(
    "line",
    [
        "-msg timestamp=off -overcommit mem-lock=off,cpu-pm=off -sandbox off -no-user-config -no-fd-bootchk -no-hpet",
        "-boot c -boot order=cdn,once=dc,menu=off,strict=on -rtc clock=host -rtc base=localtime,clock=vm,driftfix=none",
        "-net none -nic none -vga none -parallel none -vnc none -audiodev none,id=a -qmp none -gdb none -daemonize",
    ],
)
def test_what_is_so_anyway(line: str) -> None:
    assert config(*line.split()).devices == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-sandbox on,spawn=deny", "-sandbox on: there is no seccomp filter: leave it out and confine the process from outside"),
        ("-overcommit mem-lock=on", "-overcommit: mem-lock can only be off: memory is not locked"),
        ("-msg when=now", "unknown property of -msg 'when'"),
        ("-boot d", "-boot: order=d has no c, the disks"),
        ("-boot order=1", "-boot: order is letters"),
        ("-boot menu=on", "-boot: menu can only be off"),
        ("-boot splash=x", "unknown property of -boot 'splash'"),
        ("-rtc clock=rt", "-rtc: clock is vm, or host, which is taken for it, not 'rt'"),
        ("-rtc driftfix=on", "-rtc: driftfix is none or slew, not 'on'"),
        ("-mon chardev=c,mode=control", "mode can only be readline, for people: there is no QMP"),
        ("-mon mode=readline", "it needs chardev=ID"),
        ("-fw_cfg name=etc/a,string=b", "names of the user's begin with opt/"),
        ("-fw_cfg name=opt/a", "it needs name=NAME and either file=FILE or string=TEXT"),
        ("-object rng-random,id=a", "there is no such kind of object; there are memory-backend-ram"),
        ("-object secret,id=a", "^-object secret: secret 'a': Must provide"),
        ("-object secret", "^-object secret: Parameter 'id' is missing"),
        ("-object secret,id=1,data=x", "^-object secret: Parameter 'id' expects an identifier$"),
        ("-object iothread", "it needs id=ID"),
        ("-drive file=x,if=virtio,aio=fast", "aio can only be threads or native or io_uring, not 'fast'"),
        ("-drive file=x,if=virtio,werror=stop", "werror can only be report, not 'stop'"),
        ("-no-acpi -M pc,acpi=off", "-machine: acpi is on or auto"),
        ("-qmp unix:x", "-qmp unix:x: there is no QMP yet, so it can only be none"),
        ("-daemonize -nographic", "-daemonize: the terminal is not there then"),
        ("-daemonize -serial stdio", "-daemonize: the terminal is not there then"),
        ("-nic user", "-nic user: there is no network yet, so it can only be none"),
        ("-vga std", "-vga std: there is no screen yet, so it can only be none"),
        ("-M pc,usb=on", "-machine: usb is off, not 'on': there is no USB controller"),
        ("-M pc,acpi=off", "-machine: acpi is on or auto, not 'off'.*-append acpi=off"),
        ("-M pc,smm=on", "-machine: smm is off or auto, not 'on': there is no system management mode"),
    ],
)
def test_what_is_refused(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        config(*line.split())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["secure", "mte", "ras", "usb"])
def test_properties_with_one_value(name: str) -> None:
    assert config("-M", f"virt,{name}=no", target="aarch64").machine_options == ((name, "no"),)
    with pytest.raises(UserError, match=f"-machine: {name} is off, not 'on': "):
        config("-M", f"virt,{name}=on", target="aarch64")


def test_firmware_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "bios").write_bytes(b"")
    for words, found in (
        (("-L", str(tmp_path), "-bios", "bios"), str(tmp_path / "bios")),
        (("-bios", str(tmp_path / "bios"), "-L", "/"), str(tmp_path / "bios")),
        (("-L", str(tmp_path), "-bios", "other"), "other"),
    ):
        assert config(*words).firmware == found


def test_what_becomes_of_a_reset() -> None:
    assert config("-action", "reboot=shutdown,shutdown=pause,panic=none").no_reboot
    made = config("-no-reboot", "-no-shutdown", "-action", "reboot=reset", "-action", "shutdown=poweroff")
    assert (made.no_reboot, made.no_shutdown) == (False, False)
    with pytest.raises(UserError, match="-action: reboot is reset or shutdown, not 'pause'"):
        config("-action", "reboot=pause")


def test_flash_by_itself() -> None:
    made = config("-pflash", "a,b.fd", "-pflash", "c.fd", target="aarch64")
    assert [(drive.image, drive.format, drive.flash) for drive in made.drives] == [("a,b.fd", "raw", -1), ("c.fd", "raw", -1)]


def test_drives_as_scripts_have_them() -> None:
    (made,) = config("-drive", "file=x,if=virtio,cache=none,aio=native,werror=report,rerror=report,detect-zeroes=off").drives
    assert (made.image, made.cache) == ("x", "none")


def test_timers_that_only_a_pc_has() -> None:
    with pytest.raises(UserError, match="-no-hpet: a virt has none"):
        config("-no-hpet", target="aarch64")
