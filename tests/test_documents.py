"""README and the other documents: what they point to is there, and nothing was left to be filled in."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

TOP = Path(__file__).parents[1]
DOCUMENTS = [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    missing = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not (document.parent / link).exists()]
    assert not missing
    assert not re.findall(r"@@\w*@@|TODO|FIXME|XXX", text)


def test_the_picture_is_a_session() -> None:
    """Made by scripts/docs."""
    picture = TOP / "docs" / "demo.svg"
    lines = ["".join(text.itertext()) for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert lines[0] == "$ scripts/demo" and lines[-1] == "$"
    assert any("reboot: Power down" in line for line in lines)
    assert picture.stat().st_size < 100_000
