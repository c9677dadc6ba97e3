"""The archive of a userland, unpacked by Linux; the version of a package."""

import io
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks.measure import Terminal
from benchmarks.userland import Archive, version
from benchmarks.workload import FILE, LINK
from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError
from tests.cli.booting import PROGRAM


def package(path: Path) -> Path:
    """A Debian package: a file, a second name of it, a symbolic link, and things that are not wanted."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, kind, link, content in [
            ("./bin/tool", tarfile.REGTYPE, "", b"#!tool"),
            ("./usr/bin/other", tarfile.LNKTYPE, "./bin/tool", b""),
            ("./lib/now", tarfile.SYMTYPE, "then", b""),
            ("./usr/share/doc/tool", tarfile.REGTYPE, "", b"words"),
            ("./usr/lib/tool.a", tarfile.REGTYPE, "", b"!<arch>"),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size, member.mode = kind, link, len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    parts = [("debian-binary", b"2.0\n"), ("data.tar.xz", data.getvalue())]
    text = b"".join(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(c):<10}`\n".encode() + c + bytes(len(c) % 2) for name, c in parts)
    path.write_bytes(b"!<arch>\n" + text)
    return path


@pytest.mark.timeout(600)
def test_linux_finds_what_went_in(tmp_path: Path) -> None:
    try:
        files = cache.fetch(guest("alpine"), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    archive = Archive(files["initrd"].read_bytes())
    archive.add("a/link", LINK, b"odd")
    archive.add("a/odd", FILE, b"123")
    archive.add("a/odd", FILE, b"a second one of that name")
    archive.unpack(package(tmp_path / "tool_1%3a2.0-1_amd64.deb"))
    initrd = tmp_path / "initrd"
    initrd.write_bytes(archive.end())
    show = "find /a/* /usr/bin/tool /usr/bin/other /usr/lib/now /usr/lib/tool.a /usr/share/doc -exec stat -c '%N %a %s' {} +"
    line = guest("alpine").command_line(f"echo @$((1)); ({show}) 2>/dev/null; echo @$((2)); busybox poweroff -f")
    command = [sys.executable, "-c", PROGRAM, "-m", "512", "-display", "none", "-serial", "stdio", "-kernel", str(files["kernel"])]
    with Terminal([*command, "-initrd", str(initrd), "-append", line]) as terminal:
        terminal.expect(b"@1", 500)
        shown = terminal.expect(b"@2", 60).decode().replace("\r", "").strip().splitlines()
    assert sorted(shown) == [
        "'/a/link' -> 'odd' 777 3",
        "'/usr/bin/other' -> '/usr/bin/tool' 777 13",
        "'/usr/lib/now' -> 'then' 777 4",
        "/a/odd 644 3",
        "/usr/bin/tool 755 6",
    ]


def test_the_version_is_read_from_the_name() -> None:
    assert version(Path("tool_1%3a2.0-1_amd64.deb")) == "1:2.0-1"
