"""Page walks, as regions rely on them: what a region has not written to the state yet, a walk does not read, but for single words."""

from __future__ import annotations

import pytest

from exuvia.codegen.interpreter import walk_body
from exuvia.codegen.shapes import ordinary
from exuvia.dsl.values import Node
from exuvia.isa import architecture

MODELS = {"x86": "max", "aarch64": "max", "mips": "24Kf"}
MODES = {"x86": 3, "aarch64": 0, "mips": 0}


def read(body: list[Node]) -> set[str]:
    """The register files that values in it come from."""
    seen: set[int] = set()
    found: set[str] = set()
    todo = [x for n in walk_body(body) for x in (n, *(n.attr[1] if n.op == "when" else ()))]
    while todo:
        if id(n := todo.pop()) not in seen:
            seen.add(id(n))
            todo += n.args
            if n.op == "get":
                found.add(n.attr[0])
    return found


@pytest.mark.parametrize("name", MODELS)
def test_no_register_that_a_region_may_hold(name: str) -> None:
    a = architecture(name)
    files = {f for f in read(a.walk().body) if a.layout.files[f].count != 1}
    t = a.tables(MODES[name], a.model(MODELS[name], []).features)
    forms = [a.form(MODES[name], t, slot) for slot in range(t.slots)]
    written = {place[0] for f in forms if ordinary(f) for place in f.trace.env}
    assert len(written) > 5
    assert not files & written
