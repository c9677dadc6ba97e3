"""The same command lines for qemu-img and for us, in two folders that begin alike; both must say and do the same."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from exuvia.cli.img import main
from exuvia.cli.program import complain
from exuvia.disk import objects
from exuvia.support.errors import UserError

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


@dataclass
class Answer:
    """What a command said."""

    status: int
    out: str
    err: str


def ours(folder: Path, *words: str) -> Answer:
    """Run `exuvia-img` in this process."""
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    objects._objects.clear()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main.run(words)
            except UserError as error:
                complain("exuvia-img", error)
                status = 1
    finally:
        os.chdir(before)
    return Answer(status, out.getvalue(), err.getvalue())


def theirs(folder: Path, *words: str) -> Answer:
    """Run qemu-img, again while its LUKS cannot count its iterations, which it often cannot."""
    for _ in range(40):
        done = subprocess.run(["qemu-img", *words], cwd=folder, capture_output=True, timeout=120, check=False)
        if b"accurate CPU usage" not in done.stderr:
            break
        time.sleep(0.05)
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def io_write(folder: Path, name: str, format: str, *commands: str) -> None:
    """Let qemu-io write into an image."""
    given = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-f", format, *given, name], cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60)


ROOM = [  # what depends on the host, on the time, or on how a file came to be
    (re.compile(r"^( *)disk size: .*$", re.M), r"\1disk size:"),
    (re.compile(r'"actual-size": \d+'), '"actual-size":'),
    (re.compile(r'"date-n?sec": \d+'), '"date":'),
    (re.compile(r"^  encrypt.*\n", re.M), ""),  # options that need a package which may be missing
    (re.compile(r"^( *)cid: \d+$", re.M), r"\1cid:"),
    (re.compile(r'"cid": \d+'), '"cid":'),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "DATE"),
    (re.compile(r"(    \(\d+\.\d\d/100%\)\r)+"), "PROGRESS"),
    (re.compile(r"in \d+\.\d+ seconds"), "in SECONDS"),
]


def plain(text: str) -> str:
    """Without those."""
    for pattern, instead in ROOM:
        text = pattern.sub(instead, text)
    return text


class Twins:
    """Two folders, `a` for qemu-img and `b` for us."""

    def __init__(self, tmp: Path) -> None:
        self.a, self.b = tmp / "a", tmp / "b"
        self.a.mkdir()
        self.b.mkdir()

    def both(self, name: str, content: bytes) -> None:
        """Put a file into both, with holes where it has zeros."""
        for folder in (self.a, self.b):
            with open(folder / name, "wb") as file:
                file.truncate(len(content))
                for at in range(0, len(content), 4096):
                    piece = content[at : at + 4096]
                    if piece.strip(b"\0"):
                        file.seek(at)
                        file.write(piece)

    def give(self) -> None:
        """Let our folder hold exactly what qemu-img's holds."""
        shutil.rmtree(self.b)
        subprocess.run(["cp", "-a", str(self.a), str(self.b)], check=True)
        subprocess.run(["cp", "-a", f"{self.b}/.", str(self.a)], check=True)  # holes, which matter to map, are now alike

    def same(self, *words: str, errors: bool = False, output: bool = True) -> Answer:
        """Run both; standard output and status must be alike, with `errors` also what is said of them. Our answer."""
        one, other = theirs(self.a, *words), ours(self.b, *words)
        if not output:
            assert other.status == one.status, f"{words}\nqemu-img: {one}\nexuvia-img: {other}"
            return other
        assert (other.status, plain(other.out)) == (one.status, plain(one.out)), f"{words}\nqemu-img: {one}\nexuvia-img: {other}"
        if errors:
            assert other.err.replace("exuvia-img", "qemu-img") == one.err, f"{words}\nqemu-img: {one}\nexuvia-img: {other}"
        if other.status:
            assert "Traceback" not in other.err
        return other

    def content(self, name: str, format: str) -> None:
        """The images `name` in both folders hold the same, says qemu-img, which finds nothing wrong in ours."""
        answer = theirs(self.b.parent, "compare", "-f", format, "-F", format, f"a/{name}", f"b/{name}")
        assert answer.status == 0, answer
        check = theirs(self.b, "check", "-f", format, name)
        assert check.status in (0, 63), check
