"""The programs of benchmarks/programs.py, and guests that run them by name: an initial RAM disk each, with a script for every program."""

from __future__ import annotations

import array
import math
import platform
import struct
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from benchmarks.userland import Archive, packages, version
from exuvia.guests import cache, deb
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError

SOURCES = Path(__file__).parent / "programs"
PRIME = (  # of the 2,048-bit group of RFC 3526
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05"
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF"
)


@dataclass(frozen=True)
class Program:
    """`script` is for the guest's sh; what it prints is compared."""

    name: str
    guest: str
    kind: str
    script: str


def _programs(guest: str, kind: str, **scripts: str) -> list[Program]:
    return [Program(name.replace("_", "-"), guest, kind, script) for name, script in scripts.items()]


PROGRAMS = [
    *_programs(
        "alpine",
        "integer",
        sha256="for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sha256sum /data/text; done",
        gzip="for i in 1 2; do gzip -c /data/text | cksum; done",
        bzip2="head -c 2000000 /data/text | bzip2 -c | cksum",
        sort="sort /data/text | cksum",
        awk="head -c 600000 /data/text | awk -f /bench/words.awk",
        grep="for i in 1 2; do grep -c '[a-z]*_[a-z]*(.*self' /data/text; done",
    ),
    *_programs(
        "debian-amd64",
        "integer",
        xz="head -c 2000000 /data/text | /usr/bin/xz -c | cksum",
        gnu_sort="for i in 1 2 3 4; do /usr/bin/sort /data/text | cksum; done",
        mawk="mawk -f /bench/words.awk /data/text",
        python3="python3.11 /bench/objects.py 1000",
        perl="perl /bench/words.pl 1 /data/text",
        sqlite3="sqlite3 </bench/table.sql",
        openssl_sha512="for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do openssl dgst -sha512 /data/text; done",
        openssl_aes="for i in 1 2 3 4 5 6 7 8; do openssl enc -aes-256-cbc -nosalt -K 12 -iv 56 -in /data/text 2>/dev/null | cksum; done",
        openssl_prime=f"openssl prime -hex -checks 192 {PRIME} | cut -c 1-40",
        tcc="for i in 1 2 3 4 5 6 7 8 9 10 11 12; do tcc -DSTBI_NO_SIMD -c /data/libraries.c -o /tmp/o || exit; done; cksum </tmp/o",
        cc1="/usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -imultiarch x86_64-linux-gnu -O1 /data/library.c -o /tmp/s && cksum </tmp/s",
    ),
    *_programs(
        "debian-amd64",
        "float",
        nbody="/bench/nbody 2000000",
        spectral="/bench/spectral 1500",
        mandelbrot="/bench/mandelbrot 1200",
        fourier="/bench/fourier 30",
        linear="/bench/linear 20",
        raytrace="/bench/raytrace 1200",
        functions="/bench/functions 1500000",
        python3_nbody="python3.11 /bench/nbody.py 20000",
        perl_mandelbrot="perl /bench/mandelbrot.pl 160",
        mawk_mandelbrot="mawk -v size=250 -f /bench/mandelbrot.awk",
        lame="lame --quiet /data/sound.wav /tmp/l && cksum </tmp/l",
        oggenc="oggenc --quiet --serial 1 /data/sound.wav -o /tmp/g && cksum </tmp/g",
    ),
]
PACKAGES = (
    "busybox-static libc6 libgcc-s1 coreutils libselinux1 libpcre2-8-0 libacl1 libattr1 libgmp10 xz-utils liblzma5 mawk "
    "perl-base libcrypt1 python3.11-minimal libpython3.11-minimal libexpat1 zlib1g sqlite3 libsqlite3-0 libreadline8 libtinfo6 "
    "openssl libssl3 tcc libc6-dev linux-libc-dev cpp-12 libgcc-12-dev libmpc3 libmpfr6 libisl23 libzstd1 "
    "lame libmp3lame0 libmpg123-0 libsndfile1 libflac12 libogg0 libopus0 libvorbis0a libvorbisenc2 vorbis-tools"
).split()
LIBRARIES = "libstb-dev"
# Linux spends a second of any processor on its first random numbers: before the programs, not in the one that asks first
INIT = """#!/bin/busybox sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:/busybox HOME=/ LC_ALL=C
/bin/busybox mkdir -p /proc /sys /dev /tmp /busybox
for m in proc:/proc sysfs:/sys devtmpfs:/dev; do /bin/busybox mount -t ${m%:*} none ${m#*:}; done
/bin/busybox --install -s /busybox
echo 1 >/proc/sys/kernel/printk
stty -echo
head -c 1 /dev/random >/dev/null
echo @ready
while read -r name; do echo @begin; sh "/run/$name" 2>&1; echo "@end $?"; done
"""
MEMORY = 1024
FILE, EXECUTABLE, LINK = 0o100644, 0o100755, 0o120777


class Guests:
    """Kernels and initial RAM disks (in `folder`) for the guests of some programs. Raises UserError where something cannot be had."""

    def __init__(self, folder: Path, programs: list[Program]) -> None:
        self.folder, self.programs = folder, programs
        self.files: dict[str, tuple[Path, Path]] = {}
        self.versions = {"text": f"Python {platform.python_version()}"}
        for name in dict.fromkeys(program.guest for program in programs):
            found = cache.fetch(guest(name), lambda *_: None)
            self.versions[name] = guest(name).version
            archive = Archive(found["initrd"].read_bytes() if name == "alpine" else b"")
            self._bench(archive, name)
            if name != "alpine":
                self._debian(archive)
            initrd = folder / f"{name}.initrd"
            initrd.write_bytes(archive.end())
            self.files[name] = found["kernel"], initrd

    def command(self, emulator: list[str], name: str) -> list[str]:
        """The command line that boots a guest into its loop of programs."""
        kernel, initrd = self.files[name]
        options = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", f"{guest(name).append} rdinit=/bench/init"]
        return [*emulator, *options, "-m", str(MEMORY), "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"]

    def _bench(self, archive: Archive, name: str) -> None:
        """What all guests have, and what the host's gcc makes of a program that is C."""
        archive.add("bench/init", EXECUTABLE, INIT.encode())
        for source in SOURCES.iterdir():
            if source.is_file() and source.suffix != ".c":
                archive.add(f"bench/{source.name}", FILE, source.read_bytes())
        archive.add("data/text", FILE, _text())
        for program in self.programs:
            if program.guest == name:
                archive.add(f"run/{program.name}", FILE, program.script.encode() + b"\n")
                if (source := SOURCES / f"{program.name}.c").exists():
                    archive.add(f"bench/{program.name}", EXECUTABLE, _compiled(source, self.folder / program.name))

    def _debian(self, archive: Archive) -> None:
        """Debian's programs, and what they work on: sound, and C libraries that are single files."""
        for folder in ("bin", "sbin", "lib", "lib64"):
            archive.add(folder, LINK, f"usr/{folder}".encode())
        debs = packages([*PACKAGES, LIBRARIES])
        self.versions |= {name: version(path) for name, path in debs.items()}
        for name in PACKAGES:
            archive.unpack(debs[name])
        archive.add("data/sound.wav", FILE, _sound(8))
        headers = {f"stb_{name}.h": self.folder / f"stb_{name}.h" for name in ("image", "truetype", "image_write", "sprintf")}
        deb.extract(debs[LIBRARIES], {f"usr/include/stb/{name}": path for name, path in headers.items()})
        for name, path in headers.items():
            archive.add(f"data/{name}", FILE, path.read_bytes())
        archive.add("data/libraries.c", FILE, "".join(map(_include, headers)).encode())
        archive.add("data/library.c", FILE, _include("stb_sprintf.h").encode())


def _include(header: str) -> str:
    return f'#define {header.removesuffix(".h").upper()}_IMPLEMENTATION\n#include "{header}"\n'


def _text() -> bytes:
    """Some megabytes of text: the library of the Python that runs this."""
    return b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))


def _compiled(source: Path, target: Path) -> bytes:
    command = ["gcc", "-O2", "-march=x86-64", "-static", "-o", str(target), str(source), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(f"gcc not found, which compiles {source.name} for the guest; install gcc and libc6-dev") from None
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['it says nothing'])[0]}")
    return target.read_bytes()


def _sound(seconds: int) -> bytes:
    """A WAV file: chords with noise, 44,100 samples a second, 16 bits, two channels."""
    samples, noise = array.array("h"), 1
    for i in range(44_100 * seconds):
        base = 220 * 2 ** ((i // 11_025 * 5 % 12) / 12)
        noise = (noise * 1103515245 + 12345) & 0x7FFFFFFF
        left = sum(math.sin(2 * math.pi * base * k * i / 44_100) / k for k in (1, 2, 3, 5))
        right = sum(math.sin(2 * math.pi * base * k * i / 44_100) / k for k in (1, 1.5, 4))
        samples.extend((int(left * 8000) + (noise >> 22), int(right * 8000) - (noise >> 23)))
    data = samples.tobytes()
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44_100, 176_400, 4, 16)
    return b"RIFF" + struct.pack("<I", len(header) + 8 + len(data)) + header + b"data" + struct.pack("<I", len(data)) + data
