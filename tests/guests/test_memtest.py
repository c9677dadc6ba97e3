"""Memtest86+ on our machine: one whole pass over its memory, the bit fade test's minutes of waiting included, without an error."""

from __future__ import annotations

import re
import select
import subprocess
import sys
import time

import pytest

from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError

LONGEST = 1200.0  # seconds; a pass takes 3 minutes on an idle host
COUNTS = re.compile(rb"Pass: +(\d+) +Errors: +(\d+)")


@pytest.mark.soak
@pytest.mark.timeout(LONGEST + 60)
@pytest.mark.parametrize(("name", "program"), [("memtest", "x86_64"), ("memtest-ia32", "i386")])
def test_a_pass(name: str, program: str) -> None:
    chosen = guest(name)
    try:
        kernel = cache.fetch(chosen, lambda *_: None)["kernel"]
    except UserError as error:
        pytest.skip(str(error))
    words = ["-m", "24", "-kernel", str(kernel), "-append", chosen.append, "-serial", "stdio", "-display", "none"]
    seen = b""
    end = time.monotonic() + LONGEST
    with subprocess.Popen(
        [sys.executable, "-c", f"from exuvia.cli.system import {program}; {program}()", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as machine:
        try:
            assert machine.stdout is not None
            counts = (b"0", b"0")
            while counts[0] == b"0":
                assert time.monotonic() < end, seen[-2000:].decode("latin-1")
                if not select.select([machine.stdout], [], [], 1)[0]:
                    continue
                new = machine.stdout.read(4096)
                assert new, f"it ended: {seen[-2000:].decode('latin-1')}"
                seen = (seen + new)[-100_000:]
                for found in COUNTS.finditer(seen[-1000:]):
                    counts = (found[1], found[2])
                    assert counts[1] == b"0", seen.decode("latin-1")
        finally:
            machine.terminate()
        assert machine.wait(30) == 143
