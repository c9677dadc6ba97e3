"""The temporary image of -s: it takes what is written, and no name of it is left that a killed command could leave behind."""

import tempfile
from pathlib import Path

import pytest

from exuvia.cli.overlay import overlay
from exuvia.disk.graph import open_image


def test_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").write_bytes(b"\x11" * (1 << 20))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with overlay(open_image(str(tmp_path / "disk"), "raw")) as top:
        assert not list((tmp_path / "temporary").iterdir())
        top.write(4096, b"\x22" * 512)
        top.flush()
        assert top.read(4096, 1024) == b"\x22" * 512 + b"\x11" * 512
    assert (tmp_path / "disk").read_bytes() == b"\x11" * (1 << 20)
