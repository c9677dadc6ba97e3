"""LLVM text for the host's own float instructions: effects and values of `dsl.hostfloats`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.codegen.floats import EXTENDED, FLOATS, QUADS, WITH_STATUS, Assembly, available, quads
from exuvia.dsl.trace import Trace
from exuvia.dsl.values import Node


def floating(n: Node) -> str | None:
    """The LLVM type of a value that is best kept as a float: what the host's own instructions gave, and choices among such."""
    if n.op == "host":
        if FLOATS[n.attr].stores:
            return None
        t = FLOATS[n.attr].results[0]
        return t if t in ("float", "double", EXTENDED) else None
    return (floating(n.args[1]) or floating(n.args[2])) if n.op == "merge" else None


def argument(t: str) -> str:
    """A parameter's type; m64 and so on are memory."""
    return f"ptr elementtype(i{t[1:]})" if t[0] == "m" else t


def sized(t: str, w: int) -> str:
    """The type of an argument or result of so many bits."""
    return quads(w) if t == QUADS else t


class Instruction:
    """What is known of one trace while it is emitted: the names of its values."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.memo: dict[Any, Any] = {}
        self.keep: list[Node] = []  # the memo goes by identity: what it names must live


class HostFloats:
    """What an emitter knows of them."""

    asks = True  # for the x87's status word, whenever it is read somewhere
    declares: set[str]
    let: Callable[[str], str]
    do: Callable[[str], None]
    start: Callable[[str], None]
    fresh: Callable[..., str]
    load: Callable[[str, str], str]
    value: Callable[[Node, Instruction], Any]
    settled: Callable[[Node, Instruction], Node]
    bind: Callable[[Node, Instruction, Any], None]
    remember: Callable[[dict[Any, Any], Any, Any], Any]
    typed: Callable[[Node, str, Instruction], Any]

    def value_host_floats(self, n: Node, i: Instruction) -> Any:
        return int(available(n.attr))

    def extended(self, n: Node, i: Instruction) -> Any:
        """A value of 80 bits as a float."""
        n = self.settled(n, i)
        if (v := i.memo.get(("f", id(n)))) is not None:
            return v
        return self.let(f"bitcast i80 {self.value(n, i)} to {EXTENDED}")

    def do_host(self, n: Node, i: Instruction) -> None:
        """One of the host's own instructions."""
        a = self.asks and FLOATS.get(n.attr + WITH_STATUS) or FLOATS[n.attr]
        types = [sized(t, x.w) for t, x in zip(a.types, n.args, strict=not a.choices)]
        args = [(t, self.typed(x, t, i)) for t, x in zip(types, n.args)]
        which = self.value(n.args[-1], i) if a.choices else 0
        if isinstance(which, int):
            parts = self.executed(a, args, n.w, which & a.choices - 1 if a.choices else 0)
        else:
            parts = self.one_of(which, n.args[-1].w, a.choices, sized(a.results[0], n.w), lambda k: self.executed(a, args, n.w, k)[0])
        if n.attr + WITH_STATUS in FLOATS and self.asks:
            self.remember(i.memo, ("status", id(n)), parts[-1])
        if a.stores:
            return self.bind(n, i, self.load(f"i{a.stores}", self.word("host_control")))
        return self.bind(n, i, self.bits(parts) if a.results == ("i8", "i8", "i8") else parts[0])

    def executed(self, a: Assembly, args: list[tuple[str, Any]], w: int, immediate: int = 0) -> list[Any]:
        """What an instruction gives; `w`: bits of a vector that is its result."""
        if a.stores:
            args = [(f"m{a.stores}", self.word("host_control")), *args]
        text = (
            f'asm sideeffect "{a.text.replace("#", str(immediate))}", "{a.constraints}"({", ".join(f"{argument(t)} {v}" for t, v in args)})'
        )
        if not a.results:
            self.do(f"call void {text}")
            return []
        if len(a.results) == 1:
            return [self.let(f"call {sized(a.results[0], w)} {text}")]
        t = f"{{{', '.join(a.results)}}}"
        v = self.let(f"call {t} {text}")
        return [self.let(f"extractvalue {t} {v}, {k}") for k in range(len(a.results))]

    def bits(self, parts: list[Any]) -> Any:
        """Bytes that are 0 or 1 as bits of one, the first lowest."""
        v = parts[0]
        for k, p in enumerate(parts[1:], 1):
            v = self.let(f"or i8 {v}, {self.let(f'shl i8 {p}, {k}')}")
        return v

    def one_of(self, which: Any, w: int, choices: int, t: str, one: Callable[[int], Any]) -> list[Any]:
        """One text for each value of an immediate that is known only when it runs."""
        labels, after = [self.fresh("T") for _ in range(choices)], self.fresh("J")
        number = self.let(f"and i{w} {which}, {choices - 1}")
        cases = " ".join(f"i{w} {k}, label %{label}" for k, label in enumerate(labels))
        self.do(f"switch i{w} {number}, label %{labels[0]} [ {cases} ]")
        values = []
        for k, label in enumerate(labels):
            self.start(label)
            values.append(f"[ {one(k)}, %{label} ]")
            self.do(f"br label %{after}")
        self.start(after)
        return [self.let(f"phi {t} {', '.join(values)}")]

    def value_host_status(self, n: Node, i: Instruction) -> Any:
        return i.memo["status", id(self.settled(n.args[0], i))]

    def do_host_control(self, n: Node, i: Instruction) -> None:
        if not available():
            return self.bind(n, i, 0)
        p = self.word("host_control")
        self.declares.add("declare void @llvm.x86.sse.stmxcsr(ptr)")
        self.do(f"call void @llvm.x86.sse.stmxcsr(ptr {p})")
        return self.bind(n, i, self.load("i32", p))

    def do_set_host_control(self, n: Node, i: Instruction) -> None:
        if not available():
            return
        p = self.word("host_control")
        self.declares.add("declare void @llvm.x86.sse.ldmxcsr(ptr)")
        self.do(f"store i32 {self.value(n.args[0], i)}, ptr {p}")
        self.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {p})")

    def do_host_stack(self, n: Node, i: Instruction) -> None:
        self.bind(n, i, self.let('call i16 asm sideeffect "fnstsw %ax", "={ax}"()') if available() else 0)

    def do_set_host_stack(self, n: Node, i: Instruction) -> None:
        if available():
            p = self.word("host_control")
            self.do(f"store i16 {self.value(n.args[0], i)}, ptr {p}")
            self.do(f'call void asm sideeffect "fldcw $0", "*m,~{{memory}}"({argument("m16")} {p})')

    def do_clear_host_stack(self, n: Node, i: Instruction) -> None:
        """FNCLEX takes longer than to see whether it is needed."""
        if available():
            text = "fnstsw %ax\\0Atestb $$63, %al\\0Aje 1f\\0Afnclex\\0A1:"
            self.do(f'call void asm sideeffect "{text}", "~{{ax}},~{{flags}}"()')

    def word(self, name: str) -> str:
        """The address of a word of the state."""
        raise NotImplementedError

    def host_pointer(self, n: Node, i: Instruction) -> str:
        """The pointer that a load or store uses."""
        raise NotImplementedError
