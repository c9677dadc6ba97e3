"""What all tests share."""

from collections.abc import Iterator

import pytest

from exuvia.support import log


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Each test begins and ends with the log off."""
    yield
    log.configure("")
