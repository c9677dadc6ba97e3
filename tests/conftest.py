"""What all tests share."""

import gc
from collections.abc import Iterator

import pytest

from exuvia.cli.program import GARBAGE
from exuvia.support import log

gc.set_threshold(GARBAGE)  # as commands have it


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Each test begins and ends with the log off."""
    yield
    log.configure("")
