"""A little structured assembler for the runtime's own native functions: Python text in, LLVM text out.

Values are 64-bit words unless said otherwise; addresses are words. `var` makes a mutable variable (a stack slot that LLVM's SROA removes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ARGS = "ptr %st, ptr %op, ptr %tlb, i64 %ic"


class V:
    """A word in the function being written."""

    __slots__ = ("b", "name", "w")

    def __init__(self, b: Native, name: Any, w: int = 64) -> None:
        self.b, self.name, self.w = b, name, w

    def _two(self, op: str, x: Any) -> V:
        return V(self.b, self.b.let(f"{op} i{self.w} {self.name}, {name(x)}"), self.w)

    def _compare(self, op: str, x: Any) -> V:
        return V(self.b, self.b.let(f"icmp {op} i{self.w} {self.name}, {name(x)}"), 1)

    def __add__(self, x: Any) -> V:
        return self if isinstance(x, int) and x == 0 else self._two("add", x)

    def __sub__(self, x: Any) -> V:
        return self._two("sub", x)

    def __and__(self, x: Any) -> V:
        return self._two("and", x)

    def __or__(self, x: Any) -> V:
        return self._two("or", x)

    def __xor__(self, x: Any) -> V:
        return self._two("xor", x)

    def __mul__(self, x: Any) -> V:
        return self._two("mul", x)

    def __lshift__(self, x: Any) -> V:
        return self._two("shl", x)

    def __rshift__(self, x: Any) -> V:
        return self._two("lshr", x)

    def __invert__(self) -> V:
        return self._two("xor", -1)

    def __eq__(self, x: Any) -> V:  # type: ignore[override]
        return self._compare("eq", x)

    def __ne__(self, x: Any) -> V:  # type: ignore[override]
        return self._compare("ne", x)

    def __lt__(self, x: Any) -> V:
        return self._compare("ult", x)

    def __le__(self, x: Any) -> V:
        return self._compare("ule", x)

    def __gt__(self, x: Any) -> V:
        return self._compare("ugt", x)

    def __ge__(self, x: Any) -> V:
        return self._compare("uge", x)

    __hash__ = None  # type: ignore[assignment]

    def to(self, w: int) -> V:
        """Zero-extended or cut to w bits."""
        if w == self.w:
            return self
        return V(self.b, self.b.let(f"{'zext' if w > self.w else 'trunc'} i{self.w} {self.name} to i{w}"), w)


def name(x: Any) -> Any:
    return x.name if isinstance(x, V) else x


class Variable:
    """A mutable word."""

    def __init__(self, b: Native, slot: str, w: int) -> None:
        self.b, self.slot, self.w = b, slot, w

    @property
    def v(self) -> V:
        return V(self.b, self.b.let(f"load i{self.w}, ptr {self.slot}"), self.w)

    @v.setter
    def v(self, x: Any) -> None:
        self.b.do(f"store i{self.w} {name(x)}, ptr {self.slot}")


class Native:
    """One function being written; `text` when done."""

    def __init__(self, head: str) -> None:
        self.head, self.lines, self.slots, self.count = head, [], [], 0
        self.exits: list[str] = []
        self.done = False

    lines: list[str]
    slots: list[str]

    def let(self, text: str) -> str:
        self.count += 1
        self.do(f"%n{self.count} = {text}")
        return f"%n{self.count}"

    def do(self, text: str) -> None:
        if self.done:  # what follows a return or a break cannot be reached
            self.label(self.fresh())
        self.lines.append("  " + text)

    def fresh(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def label(self, l: str) -> None:
        if not self.done:
            self.lines.append(f"  br label %{l}")
        self.lines.append(f"{l}:")
        self.done = False

    def end(self, text: str) -> None:
        self.do(text)
        self.done = True

    # values
    def arg(self, n: str, pointer: bool = False) -> V:
        """A parameter as a word."""
        return V(self, self.let(f"ptrtoint ptr %{n} to i64")) if pointer else V(self, f"%{n}")

    def const(self, x: int) -> V:
        return V(self, x)

    def var(self, x: Any = 0, w: int = 64) -> Variable:
        self.count += 1
        slot = f"%s{self.count}"
        self.slots.append(f"  {slot} = alloca i{w}")
        variable = Variable(self, slot, w)
        variable.v = x
        return variable

    def pointer(self, address: Any) -> str:
        return self.let(f"inttoptr i64 {name(address)} to ptr")

    def load(self, address: Any, w: int = 64) -> V:
        """The w bits at an address, as a word."""
        v = V(self, self.let(f"load i{w}, ptr {self.pointer(address)}, align 1"), w)
        return v.to(64)

    def store(self, address: Any, x: Any, w: int = 64) -> None:
        x = x.to(w) if isinstance(x, V) else x
        self.do(f"store i{w} {name(x)}, ptr {self.pointer(address)}, align {1 if w < 64 else 8}")

    def field(self, offset: int) -> str:
        return self.let(f"getelementptr i8, ptr %st, i64 {offset}")

    def get(self, offset: int, w: int = 64) -> V:
        """A word of the state."""
        return V(self, self.let(f"load i{w}, ptr {self.field(offset)}"), w).to(64)

    def put(self, offset: int, x: Any, w: int = 64) -> None:
        """Set a word of the state."""
        x = x.to(w) if isinstance(x, V) else x
        self.do(f"store i{w} {name(x)}, ptr {self.field(offset)}")

    def choose(self, c: V, a: Any, b: Any) -> V:
        return V(self, self.let(f"select i1 {c.name}, i64 {name(a)}, i64 {name(b)}"))

    def call(self, function: str, *args: Any) -> V:
        """Call one of the module's functions (state, words...) -> word."""
        return V(self, self.let(f"call i64 @{function}({', '.join(['ptr %st', *(f'i64 {name(a)}' for a in args)])})"))

    # control
    @contextmanager
    def if_(self, c: V, likely: bool | None = None) -> Iterator[None]:
        then, after = self.fresh(), self.fresh()
        weight = "" if likely is None else ", !prof !0" if likely else ", !prof !1"
        self.end(f"br i1 {c.name}, label %{then}, label %{after}{weight}")
        self.label(then)
        yield
        self.label(after)

    @contextmanager
    def loop(self) -> Iterator[None]:
        """For ever, until `break_if`."""
        head, after = self.fresh(), self.fresh()
        self.label(head)
        self.exits.append(after)
        yield
        self.exits.pop()
        if not self.done:
            self.end(f"br label %{head}")
        self.label(after)

    def break_if(self, c: V) -> None:
        go = self.fresh()
        self.end(f"br i1 {c.name}, label %{self.exits[-1]}, label %{go}")
        self.label(go)

    def ret(self, x: Any = 0) -> None:
        self.end(f"ret i64 {name(x)}")

    # ends of handlers
    def tail(self, handler: str, op: Any = None, ic: Any = "%ic", tlb: str = "%tlb") -> None:
        """Tail-call a handler (an SSA pointer or a function's name)."""
        where = "%op" if op is None else self.pointer(op)
        r = self.let(f"musttail call preserve_nonecc i64 {handler}(ptr %st, ptr {where}, ptr {tlb}, i64 {name(ic)})")
        self.end(f"ret i64 {r}")

    def go(self, op: Any, ic: Any = "%ic", tlb: str = "%tlb") -> None:
        """Go to the record at `op`."""
        self.tail(self.pointer(self.load(op)), op, ic, tlb)

    def text(self) -> str:
        if not self.done:
            self.end("unreachable")
        return "\n".join([self.head + " {", "entry:", *self.slots, *self.lines, "}", ""])
