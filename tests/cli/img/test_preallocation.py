"""Room that was asked for in advance is taken on the host's disk, whatever the command."""

import resource
from pathlib import Path

import pytest

from exuvia.disk.graph import open_image
from tests.cli.img.test_safety import process
from tests.cli.img.twins import ours

LINES = {
    "create": "create -f qcow2 -o preallocation={} t 8M",
    "subclusters": "create -f qcow2 -o extended_l2=on,preallocation={} t 8M",
    "convert": "convert -f raw -O qcow2 -o preallocation={} zeros t",
    "resize": "resize --preallocation={} small 9M",
    "luks": "create -f luks --object secret,id=key,data=x -o key-secret=key,iter-time=10,preallocation={} t 8M",
}


@pytest.mark.parametrize("mode", ["falloc", "full"])
@pytest.mark.parametrize("command", LINES)
def test_room_is_taken(tmp_path: Path, command: str, mode: str) -> None:
    if command == "luks":
        pytest.importorskip("cryptography")
    (tmp_path / "zeros").write_bytes(bytes(8 << 20))
    assert ours(tmp_path, *"create -q -f qcow2 small 1M".split()).status == 0
    answer = ours(tmp_path, *LINES[command].format(mode).split())
    assert answer.status == 0, answer
    image = tmp_path / ("small" if command == "resize" else "t")
    assert image.stat().st_blocks * 512 >= 8 << 20
    if command != "luks":
        with open_image(str(image)) as node:
            assert not any(node.read(0, node.size))


@pytest.mark.parametrize("mode", ["falloc", "full"])
def test_where_there_is_no_room_the_size_stays(tmp_path: Path, mode: str) -> None:
    """A limit on the size of files stands for a full disk."""
    assert ours(tmp_path, *"create -q -f qcow2 t 1M".split()).status == 0
    running = process(
        tmp_path, f"resize --preallocation={mode} t 20M", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
    )
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1 and err.count("\n") == 1 and "File too large" in err, err
    with open_image(str(tmp_path / "t")) as node:
        assert node.size == 1 << 20
        assert node.check().corruptions == 0
