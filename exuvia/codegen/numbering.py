"""Value numbering in regions: what a basic block has computed once is not computed again, and constants are folded.

Instructions that follow each other read the same parts of the same registers, and flags are made of what their instruction computed anyway.
LLVM's code generator finds carries where operands have one name (`add` and `icmp ult` of its result), and has fewer lines to read.
"""

from __future__ import annotations

from typing import Any

from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.registers import InState
from exuvia.dsl.state import Layout
from exuvia.dsl.values import BINARY, Node, const, node

NOT_PURE = "load ", "call ", "musttail ", "cmpxchg ", "phi "
FOLDED = {*BINARY, "trunc"}


class Numbered(InState):
    """Names by what they stand for and the basic block that has them: no other block is sure to have been passed."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.computed: dict[tuple[str, str], str] = {}
        self.truths: set[Any] = set()  # names of conditions as numbers

    def let(self, text: str) -> str:
        """A name for the text's value, the one that it has already if it has one."""
        if text.startswith(NOT_PURE):
            return super().let(text)
        key = self.label, text
        if key not in self.computed:
            self.computed[key] = super().let(text)
            if text.startswith("zext i1 "):
                self.truths.add(self.computed[key])
        return self.computed[key]

    def compute(self, n: Node, i: Instruction) -> Any:
        if n.op in FOLDED and n.w > 1 and all(a.w <= 64 and isinstance(self.value(a, i), int) for a in n.args):
            folded = node(n.op, n.w, *(const(self.value(a, i), a.w) for a in n.args))
            if folded.op == "const":
                return folded.attr
        return super().compute(n, i)
