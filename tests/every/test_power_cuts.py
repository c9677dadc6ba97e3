"""Hundreds of power cuts for every writable format, each in the middle of writing or flushing; a long run."""

from typing import Any

import pytest

from exuvia.disk.graph import FORMATS
from tests.disk.formats.interchange import power_cuts

CREATED: dict[str, dict[str, Any]] = {  # options that keep the images of thousands of rounds small
    "qed": {"cluster_size": 4096, "table_size": 1},
    "vhdx": {"block_size": 1 << 20},
    "vpc": {"force_size": True},
}
SECRET = {"luks"}  # cannot be created without one; its own tests do
KINDS = [name for name, kind in FORMATS.items() if kind.can_create() and name not in SECRET]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_power_cuts(kind: str) -> None:
    size = (33 << 20) + 512 if kind == "vmdk" else 7 << 20
    power_cuts(kind, size, CREATED.get(kind), rounds=60 if kind == "vmdk" else 150, seed=1)
