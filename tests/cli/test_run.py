"""`exuvia run GUEST --exec`: the console protocol, with QEMU as the stand-in for the machine."""

import argparse
import shutil
from collections.abc import Callable

import pytest

import exuvia.cli.launch
from exuvia.cli import run
from exuvia.guests import cache
from exuvia.guests.catalog import GUESTS
from exuvia.guests.console import ExecConsole
from exuvia.support.errors import UserError
from tests.cli.standin import QemuMachine

Run = Callable[..., int]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line on QEMU, with a guest that is in the cache or can be fetched."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    monkeypatch.setattr(exuvia.cli.launch, "machines", {"pc": QemuMachine})

    def call(name: str, *words: str) -> int:
        try:
            cache.fetch(GUESTS[name], lambda done, total: None)
        except UserError as error:
            pytest.skip(str(error))
        return run.run(parsed(name, *words))

    return call


def test_a_command_in_alpine(execute: Run, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Output comes through byte by byte: no echo, no kernel message, no changed line end; and so does the status."""
    status = execute(
        "alpine", "--exec", r"""printf 'a\tb\377"\047$\n'; echo "$(uname -m)" >&2; cat /proc/self/comm; exit 7""", "--timeout", "200"
    )
    assert status == 7
    assert capfdbinary.readouterr().out == b"a\tb\xff\"'$\nx86_64\ncat\n"


def test_a_command_that_cannot_be_found(execute: Run, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The shell's own word and status."""
    assert execute("alpine", "--exec", "no-such-command", "--timeout", "200") == 127
    assert b"not found" in capfdbinary.readouterr().out


def test_too_slow(execute: Run) -> None:
    """--timeout ends it with what the guest said last."""
    with pytest.raises(UserError, match=r"alpine was not done after 1 seconds; it said: "):
        execute("alpine", "--exec", "true", "--timeout", "1")


def test_a_guest_that_dies(execute: Run) -> None:
    """A guest without memory enough never reaches its shell, which is said in one line."""
    with pytest.raises(UserError, match="alpine did not reach its shell; the last that it said: "):
        execute("alpine", "--exec", "true", "--append", "rdinit=/nothing init=/nothing panic=-1 --", "--timeout", "100")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run needs either the name of a guest or --kernel FILE"),
        (["alpine", "--kernel", "x"], "run needs either the name of a guest or --kernel FILE"),
        (["alpin"], r"unknown guest 'alpin' \(did you mean alpine or alpine-arm64\?\)"),
        (["memtest", "--exec", "true"], "--exec needs a guest with a shell, memtest has none"),
        (["--kernel", "x", "--exec", "true"], "--exec needs a guest with a shell"),
        (["alpine", "--initrd", "x"], "--initrd belongs to --kernel"),
        (["alpine", "--timeout", "5"], "--timeout belongs to --exec"),
        (["alpine", "--verbose"], "--verbose belongs to --exec"),
        (["alpine", "--exec", "true", "--timeout", "-1"], "--timeout: -1 is no number of seconds to wait"),
        (["--kernel", "x", "--cpu", "max,sse=maybe"], "--cpu: feature 'sse' is on or off, not 'maybe'"),
    ],
)
def test_what_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        run.run(parsed(*words))


def test_a_processor_with_features() -> None:
    made = run._config(parsed("--kernel", "k", "--cpu", "max,-lm,+sse4.2"), None, {"kernel": "k"}, "")
    assert (made.cpu, made.cpu_features) == ("max", (("lm", False), ("sse4_2", True)))


def test_the_boot_is_shown_without_the_mark() -> None:
    shown: list[bytes] = []
    console = ExecConsole("true", lambda _: None, shown.append)
    word = console.first.partition("echo ")[2].partition("-ready")[0]
    console.write(f"a kernel\nlast {word}-ready\n".encode())
    assert b"".join(shown) == b"a kernel\nlast " and shown[-1] == b""


def test_a_command_need_not_be_text() -> None:
    assert r"printf '%b' '\0145\0377'" in ExecConsole("e\udcff", lambda _: None).line.decode()


def test_disks_become_drives_and_devices() -> None:
    made = run._config(parsed("--kernel", "k", "--disk", "a,b.qcow2", "--disk", "c"), None, {"kernel": "k"}, "")
    assert [(drive.id, drive.image) for drive in made.drives] == [("virtio0", "a,b.qcow2"), ("virtio1", "c")]
    assert [(device.name, device.get("drive")) for device in made.devices] == [("virtio-blk-pci", "virtio0"), ("virtio-blk-pci", "virtio1")]
