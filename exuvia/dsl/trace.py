"""The trace of one instruction: a list of effects, and one map of what it writes when it commits.

An instruction is a transaction: reads see what it wrote, register writes commit together when its text has ended, and a fault discards
them. Only `translate` and `raise` can fault; the check of a specification refuses either after a store.

A *place* is where a value lives in the processor's state: (file, slot, width). The file names a register file of the state's declaration;
the slot is a number, or the name of the record's field that holds the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from exuvia.dsl.values import Node, Readable, Value, const, lift, node

Place = tuple[str, int | str, int]


class Flags:
    """Flags as a rule and its arguments: what a condition means under each rule is said once, by the architecture."""

    __slots__ = ("rule", "args")

    def __init__(self, rule: str, args: tuple[Node, ...]) -> None:
        self.rule, self.args = rule, args


class FlagRules:
    """An architecture's flag rules: for each rule, what every condition is as a function of the rule's arguments.

    `derive(rule, args, want)` returns the Value of the condition `want`. `words` names the conditions that the state keeps.
    """

    def __init__(self, derive: Callable[[str, list[Value], str], Value], words: dict[str, Place]) -> None:
        self.derive, self.words = derive, words
        self._known: dict[tuple[str, tuple[int, ...], str], Node] = {}

    def meaning(self, rule: str, widths: tuple[int, ...], want: str) -> Node:
        """The condition as an expression over `arg` nodes, traced once."""
        key = rule, widths, want
        if key not in self._known:
            self._known[key] = self.derive(rule, [Value(Node("arg", w, (), i)) for i, w in enumerate(widths)], want).n
        return self._known[key]


def substitute(n: Node, args: tuple[Node, ...]) -> Node:
    """The expression with its `arg` nodes replaced."""
    memo: dict[int, Node] = {}

    def go(n: Node) -> Node:
        if n.op == "arg":
            k: int = n.attr
            return args[k]
        if not n.args:
            return n
        if id(n) not in memo:
            memo[id(n)] = node(n.op, n.w, *map(go, n.args), attr=n.attr)
        return memo[id(n)]

    return go(n)


class Trace:
    """One instruction, routine or function while it is being read into effects and writes."""

    rules: FlagRules | None = None

    def __init__(self, **facts: Any) -> None:
        self.body: list[Node] = []
        self.env: dict[Place, Node] = {}
        self.flags: Flags | None = None
        self.gets: dict[Place, Node] = {}
        self.__dict__.update(facts)

    def effect(self, op: str, w: int, *args: Any, attr: Any = None) -> Value:
        """Append an effect; its result, if it has one, as a value."""
        n = Node(op, w, tuple(a.n if isinstance(a, Value) else a for a in args), attr)
        self.body.append(n)
        return Value(n)

    def get(self, place: Place) -> Value:
        """What the place holds, seen after this instruction's own writes."""
        if place in self.env:
            return Value(self.env[place])
        if place not in self.gets:
            self.gets[place] = Node("get", place[2], (), place)
        return Value(self.gets[place])

    def put(self, place: Place, value: Any) -> None:
        """Write when the instruction commits; of two writes the later wins, also where fields name the same register."""
        self.env.pop(place, None)
        value = lift(value, place[2])
        if value.w != place[2]:
            raise TypeError(f"{place[0]} is {place[2]} bits wide, not {value.w}")
        self.env[place] = value.n

    def field(self, name: str, w: int = 64) -> Value:
        """A field of the instruction's record, extended to 64 bits as the record's layout says."""
        return Value(node("trunc", w, Node("field", 64, (), name)))

    def condition(self, name: str) -> Value:
        """A flag or a condition composed of flags, under whatever set the flags last."""
        assert self.rules is not None
        if self.flags is None:
            return Value(Node("cc", self.rules.words[name][2] if name in self.rules.words else 1, (), name))
        f = self.flags
        return Value(substitute(self.rules.meaning(f.rule, tuple(a.w for a in f.args), name), f.args))

    def set_flags(self, rule: str, *args: Any) -> None:
        """The flags are now what `rule` makes of the arguments."""
        self.flags = Flags(rule, tuple(lift(a).n for a in args))

    def words(self) -> tuple[Value, ...]:
        """The flags as the state keeps them."""
        assert self.rules is not None
        return tuple(self.condition(name) for name in self.rules.words)


_now: list[Trace] = []


def now() -> Trace:
    """The trace being made."""
    return _now[-1]


@contextmanager
def tracing(trace: Trace) -> Iterator[Trace]:
    """Make `trace` the one that values and effects go to."""
    _now.append(trace)
    try:
        yield trace
    finally:
        _now.pop()


ENDS = ("raise", "retry", "leave", "enter")  # effects after which nothing follows


class when:
    """`with when(c): ...`: what the text writes inside becomes a choice after it; memory and faults inside become a branch."""

    def __init__(self, condition: Any) -> None:
        self.c = lift(condition, 1)

    def __enter__(self) -> None:
        t = now()
        self.saved = t.body, dict(t.env), t.flags
        t.body = []

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind:
            return
        t = now()
        inside, env, flags = t.body, t.env, t.flags
        t.body, t.env, t.flags = self.saved
        if self.c.constant == 0:
            return
        if self.c.constant == 1:
            t.body.extend(inside)
            t.env, t.flags = env, flags
            return
        if inside and inside[-1].op in ENDS:
            # a branch that does not come back commits what it wrote by then
            t.body.append(Node("when", 0, (self.c.n,), (inside, [], (env, flags))))
            return
        merges: list[Node] = []
        if inside:
            t.body.append(Node("when", 0, (self.c.n,), (inside, merges, None)))

        def pick(yes: Value, no: Value) -> Value:
            if not inside:
                return self.c.choose(yes, no)
            merges.append(Node("merge", yes.w, (self.c.n, yes.n, no.n)))
            return Value(merges[-1])

        for place, n in env.items():
            if place[0] == "var" and place not in t.env:
                continue  # a local of the branch
            if t.env.get(place) is n:
                continue
            old = t.get(place)
            t.put(place, branch_to(self.c, n, old, pick) if place[0] == "pc" else pick(Value(n), old))
        if flags is not t.flags:
            other = Trace()
            other.rules, other.flags = t.rules, flags
            then = other.words()
            t.flags = Flags("words", tuple(pick(a, b).n for a, b in zip(then, t.words(), strict=True)))


class rarely(when):
    """`with rarely(c): ...`: as `when`, but what is written inside costs nothing unless it happens, not even a call."""

    seldom = False

    def __enter__(self) -> None:
        super().__enter__()
        now().effect("rare", 0, attr=self.seldom)


class seldom(rarely):
    """`with seldom(c): ...`: as `rarely`, where that goes for whole programs: an engine may give the instruction to a slower one."""

    seldom = True


def branch_to(c: Value, n: Node, old: Value, pick: Callable[[Value, Value], Value]) -> Value:
    """Where to go stays a choice between places outside the branch, so that an engine can see the places."""
    if (
        n.op in ("select", "merge")
        and n.args[2].op == "get"
        and n.args[2].attr[0] == "pc"
        and n.args[1].op in ("this_pc", "field", "target")
    ):
        return pick(Value(n.args[0]), Value(const(0, 1))).choose(Value(n.args[1]), old)
    if n.op in ("this_pc", "target"):
        return c.choose(Value(n), old)
    return pick(Value(n), old)


class Var(Readable):
    """A local variable of the text: `x = Var(v)`, `x.set(...)`, also inside `when` and `loop`."""

    count = 0

    def __init__(self, value: Any, w: int = 64) -> None:
        Var.count += 1
        self.place: Place = ("var", Var.count, value.w if hasattr(value, "w") else w)
        self.set(value)

    def read(self) -> Value:
        return now().get(self.place)

    def set(self, value: Any) -> None:
        now().put(self.place, lift(value, self.place[2]))


class loop:
    """`with loop(n, a, b): ...`: the body n times; a, b are the variables that it changes."""

    def __init__(self, times: Any, *carried: Var) -> None:
        self.times, self.carried = lift(times, 64), carried

    def __enter__(self) -> None:
        t = now()
        self.start = [v.read().n for v in self.carried]
        self.phis = [Node("phi", n.w) for n in self.start]
        self.saved, t.body = t.body, []
        self.places = set(t.env)
        for v, p in zip(self.carried, self.phis, strict=True):
            v.set(Value(p))

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind:
            return
        t = now()
        body, t.body = t.body, self.saved
        nexts = [v.read().n for v in self.carried]
        t.body.append(Node("loop", 0, (self.times.n,), (body, list(zip(self.phis, self.start, nexts, strict=True)))))
        for place in set(t.env) - self.places:
            del t.env[place]
        for v, p in zip(self.carried, self.phis, strict=True):
            v.set(Value(p))


class Function:
    """A function of guest values that is compiled once and called: for what is too long to stand in every instruction."""

    def __init__(self, name: str, text: Callable[..., Value], widths: tuple[int, ...], returns: int) -> None:
        self.name, self.text, self.widths, self.returns = name, text, widths, returns
        self._trace: Trace | None = None

    def __call__(self, *args: Any) -> Value:
        values = [lift(a, w) for a, w in zip(args, self.widths, strict=True)]
        for v, w in zip(values, self.widths, strict=True):
            if v.w != w:
                raise TypeError(f"{self.name}: an argument is {v.w} bits wide, not {w}")
        return Value(Node("call", self.returns, tuple(v.n for v in values), self))

    @property
    def trace(self) -> Trace:
        """Effects of the body; `result` is the value returned."""
        if self._trace is None:
            t = Trace()
            with tracing(t):
                result = self.text(*(Value(Node("param", w, (), i)) for i, w in enumerate(self.widths)))
            if result.w != self.returns:
                raise TypeError(f"{self.name} returns {result.w} bits, not {self.returns}")
            t.__dict__["result"] = result.n
            self._trace = t
        return self._trace


FUNCTIONS: dict[str, Function] = {}


def function(*widths: int, returns: int) -> Callable[[Callable[..., Value]], Function]:
    """`@function(64, 64, returns=64)`: a function of values of these widths (bits)."""

    def make(text: Callable[..., Value]) -> Function:
        f = Function(text.__name__, text, widths, returns)
        if f.name in FUNCTIONS:
            raise ValueError(f"two functions are named {f.name}")
        FUNCTIONS[f.name] = f
        return f

    return make


def retry() -> None:
    """Do this instruction again from its start."""
    now().effect("retry", 0)
