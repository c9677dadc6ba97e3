"""The cache of generated code while machines use it: full, emptied, damaged, shared. Guests run on, and the next start finds it sound."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.codegen import store
from exuvia.codegen.engine import build_identity
from exuvia.isa.x86.architecture import architecture
from exuvia.support.errors import UserError
from tests.cli.booting import OFF, Boot, cache_without_regions

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]


@pytest.fixture
def cache_home(tmp_path: Path) -> Path:
    try:
        return cache_without_regions(tmp_path)
    except UserError as error:
        pytest.skip(str(error))


ALPINE = [sys.executable, "-m", "exuvia", "run", "alpine", "--exec", "uname -m; sha256sum /bin/* | sha256sum"]


def alpine(cache_home: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """A command in Alpine; with `before`, as the last of a command that gets it as arguments."""
    env = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
    return subprocess.run([*before, *ALPINE], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=250, env=env)


def on_a_disk(cache_home: Path, options: str) -> subprocess.CompletedProcess[str]:
    """A command in Alpine, the generated code lying on a file system of its own, in a mount namespace that nobody else sees."""
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*space, "mount -t tmpfs none /mnt"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    code = cache_home / "exuvia" / "code"
    code.mkdir(exist_ok=True)
    script = f"""mount -t tmpfs none {code} && cp -r {code}.before/. {code} && mount -o remount,{options} {code} || exit 99
                 "$@"; status=$?; find {code} -type f ! -name '*.code' >&2; exit $status"""
    return alpine(cache_home, *space, script, "sh")


def regions(cache_home: Path) -> int:
    return store.contents(cache_home / "exuvia" / "code" / store.beside(build_identity(architecture()), "regions"))[0]


KEPT, NONE = "not all generated code was kept: ", "generated code is not kept, each start compiles it again: "


@pytest.mark.parametrize(
    ("options", "said", "why"),
    [("size=64k", KEPT, "No space left on device"), ("ro", NONE, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_no_room(cache_home: Path, options: str, said: str, why: str) -> None:
    code = cache_home / "exuvia" / "code"
    shutil.rmtree(code, ignore_errors=True)
    (cache_home / "exuvia" / "code.before").mkdir()
    done = on_a_disk(cache_home, options)
    assert (done.returncode, done.stdout[:7]) == (0, "x86_64\n"), done.stderr
    assert done.stderr.startswith(f"exuvia: {said}")
    assert done.stderr.endswith(f": {why}\n") and done.stderr.count("\n") == 1


def test_no_more_room_during_the_run(cache_home: Path) -> None:
    assert alpine(cache_home).returncode == 0
    build = build_identity(architecture())
    list(store.Store(build, cache_home / "exuvia" / "code").batches())  # many files become one, now and not when there is no room
    shutil.rmtree(cache_home / "exuvia" / "code" / store.beside(build, "regions"))  # so that all but regions is there
    (cache_home / "exuvia" / "code").rename(cache_home / "exuvia" / "code.before")
    needed = sum(-(-file.stat().st_size // 4096) * 4096 for file in (cache_home / "exuvia" / "code.before" / build).iterdir())
    done = on_a_disk(cache_home, f"size={needed + (128 << 10)}")
    assert (done.returncode, done.stdout[:7]) == (0, "x86_64\n"), done.stderr
    assert done.stderr.startswith(f"exuvia: {KEPT}")
    assert done.stderr.endswith(": No space left on device\n") and done.stderr.count("\n") == 1


def test_emptied(cache_home: Path) -> None:
    with Boot(cache_home, first=OFF) as boot:
        boot.busy_worker()
        boot.code.rename(cache_home / "emptied")  # at once: a machine goes on writing
        assert boot.ended(120) == 0, boot.text()
        assert boot.store_is_sound()
    assert regions(cache_home) > 10
    assert alpine(cache_home).returncode == 0


def test_damaged(cache_home: Path) -> None:
    with Boot(cache_home, first=OFF) as boot:
        boot.busy_worker()
        damaged = list(boot.code.rglob("*.code"))
        for number, file in enumerate(damaged):
            if number % 2:
                os.truncate(file, file.stat().st_size // 2)
            else:
                with file.open("r+b") as opened:
                    opened.write(b"\0" * 100)
        assert damaged
        assert boot.ended(120) == 0, boot.text()
    done = alpine(cache_home)
    assert (done.returncode, done.stdout[:7], done.stderr) == (0, "x86_64\n", "")
    for file in (cache_home / "exuvia" / "code").rglob("*.code"):
        store.read(file)


def test_two_machines(cache_home: Path) -> None:
    with Boot(cache_home, first=OFF) as one, Boot(cache_home, first=OFF) as two:
        for boot in (one, two):
            assert boot.ended(200) == 0, boot.text()
            assert "the shell is there" in boot.text()
            assert "exuvia" not in boot.text()
        assert one.store_is_sound()
    assert regions(cache_home) > 10
