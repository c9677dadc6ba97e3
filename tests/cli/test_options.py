"""QEMU's option syntax: what becomes of it, and what is said about mistakes."""

import pytest

from exuvia.cli import keyval
from exuvia.cli.draft import Answered
from exuvia.cli.options import OPTIONS
from exuvia.cli.system import parse
from exuvia.machines.config import ChardevConfig, DeviceConfig, DriveConfig, MachineConfig, SemihostingConfig
from exuvia.support.errors import UserError


def config(*words: str) -> MachineConfig:
    return parse("test", "x86_64", words).config()


def test_defaults() -> None:
    made = config()
    assert (made.machine, made.accel, made.cpu, made.smp, made.memory) == ("pc", ("software",), "qemu64", 1, 128 << 20)
    assert made.serial == ("serial0",)
    assert made.chardevs == (ChardevConfig(id="serial0", kind="null"),)
    assert made.monitors == ()
    assert parse("test", "i386", []).config().cpu == "qemu32"


def test_compiled_regions_can_be_left_out() -> None:
    assert config("-accel", "software,regions=off").accel_options == (("regions", "off"),)
    assert config("-accel", "kvm", "-accel", "tcg").accel == ("kvm", "software")
    assert config("-accel", "kvm:tcg").accel == config("-M", "pc,accel=kvm:tcg").accel == ("kvm", "software")
    assert config("-enable-kvm", "-cpu", "host,-avx").accel == ("kvm",)
    for words in (("-M", "pc,accel=kvm,kernel_irqchip=split"), ("-accel", "kvm,kernel-irqchip=split")):
        assert config(*words).accel_options == (("kernel-irqchip", "split"),)
    with pytest.raises(UserError, match="regions is on, off, or check"):
        config("-accel", "tcg,regions=perhaps")


def test_properties_of_the_machine() -> None:
    assert config("-M", "pc,hpet=off,accel=tcg", "-machine", "hpet=on").machine_options == (("hpet", "off"), ("hpet", "on"))


def test_a_whole_line() -> None:
    made = config(
        *("-M", "pc,accel=tcg", "-cpu", "max,+sse4.2,enforce,aes=off", "-smp", "cpus=2", "-m", "1.5G"),
        *(
            "--kernel=vmlinuz",
            "-initrd",
            "a,b",
            "-append",
            "console=ttyS0 a=b,c",
            "-no-reboot",
            "-no-shutdown",
            "-S",
            "-rtc",
            "base=localtime",
        ),
        *(
            "-name",
            "guest=one",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=4",
            "-serial",
            "none",
            "-uuid",
            "1" * 8 + "-1111" * 3 + "-" + "1" * 12,
        ),
    )
    assert (made.accel, made.cpu, made.cpu_features) == (("software",), "max", (("sse4_2", True), ("aes", False)))
    assert (made.smp, made.memory, made.kernel, made.initrd, made.append) == (2, 3 << 29, "vmlinuz", "a,b", "console=ttyS0 a=b,c")
    assert (made.no_reboot, made.no_shutdown, made.paused, made.rtc_base, made.name) == (True, True, True, "localtime", "one")
    assert made.devices == (DeviceConfig(name="isa-debug-exit", properties=(("iobase", "0xf4"), ("iosize", "4"))),)
    assert made.serial == (None,)


def test_nographic_shares_the_terminal() -> None:
    made = config("-nographic")
    assert made.serial == ("serial0",)
    assert made.monitors == ("serial0",)
    assert made.chardevs == (ChardevConfig(id="serial0", kind="stdio", options=(("mux", "on"), ("signal", "off"))),)
    made = config("-nographic", "-monitor", "none")
    assert made.chardevs == (ChardevConfig(id="serial0", kind="stdio"),)
    assert made.monitors == ()


def test_the_terminal_that_no_serial_port_has_is_the_monitors() -> None:
    made = config("-nographic", "-serial", "file:log")
    assert [(made.kind, made.id) for made in made.chardevs] == [("file", "serial0"), ("stdio", "monitor0")]
    assert made.monitors == ("monitor0",)
    assert config("-nographic", "-serial", "stdio").monitors == ()
    assert config("-nographic", "-serial", "mon:stdio").monitors == ("serial0",)
    assert config("-nographic", "-nodefaults").monitors == ()


def test_several_monitors() -> None:
    made = config("-serial", "mon:stdio", "-monitor", "pty", "-monitor", "unix:/tmp/m,server=on,wait=off", "-monitor", "none")
    assert made.monitors == ("serial0", "monitor0", "monitor1")


@pytest.mark.parametrize(
    ("spec", "kind", "options"),
    [
        ("stdio", "stdio", {}),
        ("pty", "pty", {}),
        ("null", "null", {}),
        ("file:/tmp/a:b,c", "file", {"path": "/tmp/a:b,c"}),
        ("unix:/tmp/s,server,nowait", "socket", {"path": "/tmp/s", "server": "on", "wait": "off"}),
        ("tcp::4444,server=on,wait=off", "socket", {"port": "4444", "server": "on", "wait": "off"}),
        ("tcp:localhost:4444", "socket", {"host": "localhost", "port": "4444"}),
        ("mon:stdio", "stdio", {"mux": "on", "signal": "off"}),
    ],
)
def test_lines(spec: str, kind: str, options: dict[str, str]) -> None:
    (made,) = config("-serial", spec).chardevs
    assert (made.kind, dict(made.options)) == (kind, options)


def test_chardevs_by_id() -> None:
    made = config("-chardev", "socket,id=a,path=/tmp/x,,y,server=on", "-serial", "chardev:a", "-monitor", "stdio")
    assert made.chardevs[0] == ChardevConfig(id="a", kind="socket", options=(("path", "/tmp/x,y"), ("server", "on")))
    assert (made.serial, made.monitors) == (("a",), ("monitor0",))


def test_commas() -> None:
    assert keyval.split("a,,b,c,,,d") == ["a,b", "c,", "d"]
    assert keyval.parse("x,on,k=v=w", "first") == [("first", "x"), ("on", "on"), ("k", "v=w")]


@pytest.mark.parametrize(("text", "size"), [("1", 1 << 20), ("4096b", 4096), ("2k", 2048), ("0.5G", 1 << 29), ("1T", 1 << 40)])
def test_sizes(text: str, size: int) -> None:
    assert keyval.size(text) == size


def test_drives() -> None:
    line = "file=a,,b.img,if=virtio,format=raw,readonly=on,cache=unsafe,discard=unmap"
    made = config("-drive", line, "-drive", "file=c,if=none,id=second", "-device", "virtio-blk-pci,drive=second,serial=X")
    assert made.drives == (
        DriveConfig(id="virtio0", image="a,b.img", format="raw", read_only=True, cache="unsafe", discard=True, option=f"-drive {line}"),
        DriveConfig(id="second", image="c", option="-drive file=c,if=none,id=second"),
    )
    assert [(device.name, device.get("drive")) for device in made.devices] == [("virtio-blk-pci", "virtio0"), ("virtio-blk-pci", "second")]
    assert [drive.snapshot for drive in config("-drive", "file=c,if=virtio", "-snapshot").drives] == [True]
    (described,) = config("-drive", "file.filename=c,format=qcow2,if=virtio").drives
    assert described.image == {"file": {"filename": "c"}, "driver": "qcow2"}


def test_blockdevs() -> None:
    """A device's node becomes a drive with what it names under it; the same in JSON."""
    file = ("-blockdev", "driver=file,node-name=f,filename=x")
    device = ("-device", "virtio-blk-pci,drive=d")
    text = config(*file, "-blockdev", "driver=qcow2,node-name=d,file=f,read-only=on,discard=unmap,cache.no-flush=on", *device)
    (made,) = text.drives
    assert made.image == {"driver": "qcow2", "file": {"driver": "file", "filename": "x"}, "read-only": "on", "cache": {"no-flush": "on"}}
    assert (made.id, made.read_only, made.discard, made.cache) == ("d", True, True, "unsafe")
    whole = '{"driver": "qcow2", "node-name": "d", "read-only": true, "file": {"driver": "file", "filename": "x"}}'
    (made,) = config("-blockdev", whole, *device).drives
    assert made.image == {"driver": "qcow2", "read-only": True, "file": {"driver": "file", "filename": "x"}}
    assert made.read_only
    (made,) = config(*file, "-device", "virtio-blk-pci,drive=f").drives
    assert made.image == {"driver": "raw", "file": {"driver": "file", "filename": "x"}}, "no format is guessed"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-kernl x", "unknown option '-kernl' (did you mean -kernel"),
        ("-drive file=x", "-drive file=x: this is an IDE disk, which there is not yet: write -drive file=x,if=virtio"),
        ("disk.img", "argument 'disk.img': this is an IDE disk, which there is not yet: write -drive file=disk.img,if=virtio"),
        ("-hda disk.img", "-hda disk.img: this is an IDE disk"),
        ("-drive file=x,if=scsi", "-drive file=x,if=scsi: there is no interface 'scsi' yet: write if=virtio"),
        ("-drive file=x,if=virtoi", "unknown interface of -drive 'virtoi' (did you mean virtio?)"),
        ("-drive if=virtio", "-drive if=virtio: it needs file=FILE"),
        ("-drive file=x,if=virtio,media=cdrom", "-drive file=x,if=virtio,media=cdrom: media is disk"),
        ("-drive file=x,if=virtio,readonly=perhaps", "-drive file=x,if=virtio,readonly=perhaps: readonly is on or off"),
        ("-drive file=x,if=virtio,cache=all", "-drive file=x,if=virtio,cache=all: cache is one of"),
        ("-drive file=x,if=virtio,discard=all", "-drive file=x,if=virtio,discard=all: discard is unmap or ignore"),
        ("-drive file=x,if=virtio,formta=raw", "unknown property of -drive 'formta' (did you mean format?)"),
        ("-blockdev driver=raw,file.filename=x", "-blockdev driver=raw,file.filename=x: it needs node-name=ID"),
        ("-blockdev node-name=x", "-blockdev node-name=x: it needs driver=DRIVER"),
        ("-blockdev {", "-blockdev {: this is not JSON"),
        ("-blockdev qcow2,node-name=a,file=b -device virtio-blk-pci,drive=a", "unknown node in -blockdev node-name=a 'b'"),
        ("-blockdev qcow2,node-name=a,file=a -device virtio-blk-pci,drive=a", "-blockdev node-name=a: 'a' stands on itself"),
        ("-device virtio-blk-pci,drive=a,serail=x", "unknown property of virtio-blk-pci 'serail' (did you mean serial?)"),
        ("-kernel", "option -kernel needs a value"),
        ("-kernel -nographic", "option -kernel needs a value, and -nographic is an option (-kernel=-nographic if it is meant)"),
        ("-nographic=on", "option -nographic takes no value"),
        ("-M q36", "unknown machine 'q36' (did you mean pc?)"),
        ("-M pc,acel=tcg", "unknown property of -machine 'acel' (did you mean accel"),
        ("-M pc,hpt=off", "unknown property of -machine 'hpt' (did you mean hpet"),
        ("-M pc,hpet=maybe", "-machine: property 'hpet' is on or off, not 'maybe'"),
        ("-accel kvmm", "unknown accelerator 'kvmm' (did you mean kvm?)"),
        ("-accel kvm:tgc", "unknown accelerator 'tgc'"),
        ("-M pc,kernel-irqchip=maybe", "kernel-irqchip is on, split or off, not 'maybe'"),
        ("-accel kvm,kernel-irqchip=maybe", "kernel-irqchip is on, split or off, not 'maybe'"),
        ("-cpu qemu63", "unknown processor model 'qemu63' (did you mean qemu64"),
        ("-cpu max,+sse9", "unknown processor feature 'sse9'; did you mean sse"),
        ("-cpu max,sse2=maybe", "-cpu: feature 'sse2' is on or off, not 'maybe'"),
        ("-smp many", "-smp: 'many' is no number of processors"),
        ("-smp coers=2", "unknown property of -smp 'coers' (did you mean cores"),
        ("-m lots", "-m: 'lots' is no size (a number, perhaps with K, M, G or T)"),
        ("-m -5", "-m: '-5' is no size (a number, perhaps with K, M, G or T)"),
        ("-device isa-serail", "unknown device 'isa-serail' (did you mean isa-serial"),
        ("-device isa-serial,chardve=a", "unknown property of isa-serial 'chardve' (did you mean chardev?)"),
        ("-chardev stdio", "-chardev stdio: it needs id=ID"),
        ("-chardev spice,id=a", "unknown chardev backend 'spice'"),
        ("-serial com1", "-serial com1: no such line; it is none, null"),
        ("-serial mon:com1", "-serial mon:com1: no such line; it is none, null"),
        ("-display gtk", "unknown display 'gtk' (did you mean none?)"),
        ("-rtc base=noon", "-rtc: base is utc, localtime or a date"),
        ("-uuid 1", "-uuid: '1' is no UUID"),
    ],
)
def test_mistakes(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config(*line.split())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("-machine help", "pc  "),
        ("-machine pc,help", "hpet=<bool>          high precision event timers (default on)"),
        ("-cpu help", "qemu64  "),
        ("-accel help", "software  "),
        ("-device help", "isa-serial  "),
        ("-device isa-serial,help", "chardev=<str>"),
        ("-device isa-serial,help", "the first of its 8 ports (default 0x3f8)"),
        ("-chardev null,help", "none\n"),
        ("-chardev help", "socket  "),
        ("-chardev socket,help", "nodelay  "),
        ("-d help", "unimp  "),
        ("-display help", "none  "),
        ("-version", "test (Exuvia) version "),
        ("-h", "-kernel FILE  "),
    ],
)
def test_questions(line: str, part: str) -> None:
    with pytest.raises(Answered) as caught:
        config(*line.split())
    assert part in caught.value.text


def test_every_option_has_help() -> None:
    assert all(function.__doc__ for function in OPTIONS.values())


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ("", None),
        ("-semihosting -semihosting-config enable=off", None),
        ("-semihosting", SemihostingConfig(arguments=("k", "a", "b"))),
        (
            "-semihosting-config target=native,userspace=on,chardev=c",
            SemihostingConfig(chardev="c", userspace=True, arguments=("k", "a", "b")),
        ),
        ("-semihosting-config arg=one,arg=t,,wo -semihosting-config arg=three", SemihostingConfig(arguments=("one", "t,wo", "three"))),
    ],
)
def test_semihosting(words: str, made: SemihostingConfig | None) -> None:
    assert parse("test", "aarch64", [*words.split(), "-kernel", "k", "-append", "a b"]).config().semihosting == made


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("enable=perhaps", "enable is on or off, not 'perhaps'"),
        ("target=gdb", "target is native, or auto, which is native"),
        ("chardevs=c", "did you mean chardev"),
    ],
)
def test_semihosting_wrongly(value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config("-semihosting-config", value)
