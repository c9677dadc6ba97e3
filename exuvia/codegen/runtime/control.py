"""Going from block to block, leaving to Python and coming back.

The instruction counter is an argument of every handler and counts up; it is compared with the state's `deadline` at each head, which
answers both "is the budget spent" and "does somebody want something" (a request stores 0 there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from exuvia.codegen.floats import Surroundings
from exuvia.codegen.layout import (
    ACCESS_FETCH,
    HEAD,
    INDEXED_SHIFT,
    MODE,
    MODE_ENTRY,
    REASON,
    RUNTIME,
    SPECIAL,
    routine_at,
)
from exuvia.codegen.native import Native, V
from exuvia.codegen.runtime import devices, tick
from exuvia.codegen.runtime.blocks import INDEX, OFF, SLOT, first_head, jump_entry, special, usual_head
from exuvia.codegen.runtime.clock import host_time, virtual_time
from exuvia.codegen.runtime.copying import copied
from exuvia.codegen.runtime.memory import PAGE, function, handler, leave_slot, words
from exuvia.codegen.runtime.sharing import publish, state_word
from exuvia.dsl.state import JUMP_TAG, Layout
from exuvia.dsl.tick import NEVER

SELDOM = 128  # samples of a block from which Python looks at it only every so many, not each time that they have doubled
SAMPLE = 8192  # instructions from look to look, and up to twice as many


def source(layout: Layout, no_index: int) -> str:
    """LLVM text of this part."""
    at = words(layout)
    looks = attention(at, layout)
    return (
        "".join(f(at) for f in (head, known, redecode, link, again, leaves, virtual_time))
        + run(at, layout)
        + lazy(at, no_index)
        + jump(at, looks, layout)
        + out(at, looks, layout)
        + faults(at, layout)
    )


def load_atomic(b: Native, offset: int) -> V:
    return V(b, b.let(f"load atomic i64, ptr {b.field(offset)} monotonic, align 8"))


def put_atomic(b: Native, offset: int, x: object) -> None:
    b.do(f"store atomic i64 {x}, ptr {b.field(offset)} monotonic, align 8")


def attention(at: dict[str, int], layout: Layout) -> Callable[[Native], V]:
    """Not zero if Python has to look: an event is pending, or the architecture's words say so."""

    def look(b: Native) -> V:
        v = load_atomic(b, at["interrupt_pending"])
        for word, mask in layout.attention.items():
            v = v | (b.get(at[word]) & mask)
        return v

    return look


def head(at: dict[str, int]) -> str:
    b = handler("h_head")
    op, ic = b.arg("op", True), b.arg("ic")
    with b.if_(ic >= load_atomic(b, at["deadline"]), False):
        b.put(at["pc"], b.get(at["page"]) + b.load(op + HEAD["off"], 16))
        b.tail("@out")
    b.put(at["current"], op)
    b.go(b.load(op + HEAD["body"]), ic + b.load(op + HEAD["n"], 16))
    return b.text()


def known(at: dict[str, int]) -> str:
    """A region may be known that has this block: Python looks, once, before the block runs."""
    b = handler("h_known")
    op = b.arg("op", True)
    here, then = special(b, at, "known"), first_head(b, at)
    pair = b.let(f"cmpxchg ptr {b.pointer(op)}, i64 {here.name}, i64 {then.name} seq_cst seq_cst, align 8")
    with b.if_(~V(b, b.let(f"extractvalue {{i64, i1}} {pair}, 1"), 1), False):  # another processor looked, or dropped it
        b.go(op)
    b.store(op + HEAD["samples"], 1, 32)
    b.put(at["pc"], b.get(at["page"]) + b.load(op + HEAD["off"], 16))
    b.put(at["hot"], op)
    b.put(at["resume"], 0)
    b.put(at["icount"], b.arg("ic"))
    b.ret(REASON["hot"])
    return b.text()


def redecode(at: dict[str, int]) -> str:
    b = handler("h_redecode")
    op = b.arg("op", True)
    b.put(at["pc"], b.get(at["page"]) + b.load(op + HEAD["off"], 16))
    done = b.call("decode", op)
    with b.if_(done == 1, False):
        b.put(at["resume"], 0)
        b.put(at["icount"], b.arg("ic"))
        b.ret(b.get(at["reason"]))
    with b.if_(done == 2, False):
        b.tail("@fetch_fault")
    b.go(op)
    return b.text()


def link(at: dict[str, int]) -> str:
    """Stubs behind a block: near ones patch their link, far ones look up each time (those of copies in a place of their own)."""
    text = ""
    for name in ("h_link", "h_far"):
        b = handler(name)
        op = b.arg("op", True)
        mask = b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + MODE["mask"])
        pc = (b.get(at["page"]) + b.load(op + 8)) & mask
        b.put(at["pc"], pc)
        if name == "h_far":
            b.tail("@jump")
        else:
            found = b.call("find")
            with b.if_(found == 0):
                b.tail("@not_found")
            running = b.load(b.get(at["current"]) + HEAD["key"])
            with b.if_((b.load(found + HEAD["key"]) & PAGE) == (running & PAGE), True):  # else our translation is a new one
                b.call("chain", op, found)
            b.go(found)
        text += b.text()
    b = handler("h_fall")
    b.go(b.load(b.arg("op", True) + 32))
    return text + b.text()


def lazy(at: dict[str, int], no_index: int) -> str:
    """In the place of a handler that is not compiled: if the table has it by now, it runs; else Python compiles."""
    text = ""
    for name, reason in (("h_lazy", "lazy"), ("h_careful_lazy", "careful")):
        b = handler(name)
        op = b.arg("op", True)
        slot = b.load(op + SLOT, 16)
        has_index = b.load(op + INDEX, 8) != no_index
        table = b.choose(has_index, MODE["indexed"], MODE["table"]) if name == "h_lazy" else b.const(MODE["careful"])
        have = b.load(b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + table) + (slot << 3))
        with b.if_(have != special(b, at, name[2:])):
            b.store(op, have)
            b.go(op)
        b.put(at["slot"], slot | (has_index.to(64) << INDEXED_SHIFT) if name == "h_lazy" else slot)
        b.put(at["resume"], op)
        b.put(at["icount"], b.arg("ic"))
        b.ret(REASON[reason])
        text += b.text()
    return text


def jump(at: dict[str, int], looks: Callable[[Native], V], layout: Layout) -> str:
    """Go on at `pc`: `jump` with the TLB at hand, `fresh` after the mode or the rights may have changed."""
    b = handler("jump")
    pc = b.get(at["pc"])
    entry = jump_entry(b, pc)
    tag = (pc << JUMP_TAG) | b.get(at["generation"]) | b.get(at["mode"])
    with b.if_(b.load(entry) == tag, True):
        b.put(at["page"], pc & PAGE)
        head, ic = b.load(entry + 8), b.arg("ic")
        counts = V(b, b.let(f"icmp eq ptr {b.pointer(b.load(head))}, @h_head"), 1)
        with b.if_(counts & (ic < load_atomic(b, at["deadline"])), True):  # what h_head does, an indirect jump earlier
            b.put(at["current"], head)
            b.go(b.load(head + HEAD["body"]), ic + b.load(head + HEAD["n"], 16))
        b.go(head)
    with b.if_(b.arg("ic") >= load_atomic(b, at["deadline"]), False):
        b.tail("@out")  # before the next instruction is looked for: its fault is not this one's
    found = b.call("find")
    with b.if_(found == 0):
        b.tail("@not_found")
    b.put(at["page"], pc & PAGE)
    b.go(found)
    text = b.text()
    b = handler("fresh")
    leave_slot(b, at, layout)
    with b.if_(looks(b) != 0, False):  # perhaps an event is welcome now
        put_atomic(b, at["deadline"], 0)
    b.tail("@jump", tlb=b.pointer(b.get(at["tlb"])))
    text += b.text()
    b = handler("not_found")
    reason = b.get(at["reason"])
    with b.if_(reason == -1):
        b.tail("@fetch_fault")
    b.put(at["resume"], 0)
    b.put(at["icount"], b.arg("ic"))
    b.ret(reason)
    return text + b.text()


def again(at: dict[str, int]) -> str:
    """A repeated instruction goes on with itself: the point where it can be interrupted."""
    b = handler("again")
    op, ic = b.arg("op", True), b.arg("ic")
    with b.if_(ic >= load_atomic(b, at["deadline"]), False):
        b.put(at["pc"], b.get(at["page"]) + b.load(op + OFF, 16))
        b.tail("@out")
    b.go(op, ic + 1)
    return b.text()


def leaves(at: dict[str, int]) -> str:
    """An instruction that is done, but for what Python does: `pc` is where to go on, `op` the instruction."""
    text = ""
    for name, reason in (("leave", "leave"), ("leave_out", "pio_out")):
        b = handler(name)
        op = b.arg("op", True)
        b.put(at["op"], op)
        b.put(at["resume"], 0)
        b.put(at["mmio_done"], 0)
        ic = b.call("exact", op, b.arg("ic"), 1)
        b.put(at["icount"], ic)
        if name == "leave_out":
            written = (b.get(at[word]) for word in ("io_port", "io_size", "io_data"))
            with b.if_(devices.post(b, at, "port_registers", *written) != 0, False):
                b.tail("@fresh", None, ic)
        b.ret(REASON[reason])
        text += b.text()
    b = handler("io_in")
    found = devices.answer(b, at, "port_registers", b.get(at["io_port"]), b.get(at["io_size"]))
    with b.if_(found != devices.ASK):
        b.put(at["io_data"], found)
        b.put(at["io_ready"], 1)
        b.go(b.arg("op", True), b.arg("ic"))
    b.put(at["resume"], b.arg("op", True))
    b.put(at["icount"], b.arg("ic"))
    b.ret(REASON["pio_in"])
    return text + b.text()


def faults(at: dict[str, int], layout: Layout) -> str:
    """The running instruction faults: `fault_vector` and `fault_error` say how; or an access did, at `address`: the walk's words."""
    text = ""
    for name, routine in (("fault", "fault"), ("access_fault", "access_fault"), ("fetch_fault", "access_fault")):
        b = handler(name)
        op, ic = b.arg("op", True), b.arg("ic")
        st = b.arg("st", True)
        routine_op = st + routine_at(layout, routine)
        b.put(at["mmio_done"], 0)
        if name == "fetch_fault":  # `pc` is right already, nothing of a block ran
            b.put(at["access"], ACCESS_FETCH | 1 << 8)
            b.put(at["op"], 0)
            b.go(routine_op, ic)
        else:
            inside = (op - st) < 16384
            with b.if_(inside, False):
                # a fault while an event is being delivered: what that means is the architecture's business, in Python
                b.put(at["op"], op)
                b.put(at["resume"], 0)
                b.put(at["icount"], ic)
                b.put(at["leave"], 0)
                b.ret(REASON["leave"])
            b.put(at["pc"], b.get(at["page"]) + b.load(op + OFF, 16))
            b.put(at["op"], op)
            b.go(routine_op, b.call("exact", op, ic, 0))
        text += b.text()
    return text


def out(at: dict[str, int], looks: Callable[[Native], V], layout: Layout) -> str:
    """The deadline passed: the budget, a request, or only a look whether an interrupt can come in now."""
    b = handler("out")
    ic = b.arg("ic")
    end = b.get(at["budget_end"])
    put_atomic(b, at["deadline"], next_look(b, at, ic, end).name)
    b.do("fence seq_cst")
    put_atomic(b, at["asked"], 0)
    b.put(at["resume"], 0)
    b.put(at["icount"], ic)
    with alarm_due(b, at):
        b.ret(REASON["alarm"])
    with b.if_(b.get(at["posted"]) != 0, False), b.if_(host_time(b, at) >= b.get(at["posted"]), False):
        b.ret(REASON["request"])
    if tick.takes_part(layout):
        with tick_due(b, at) as now:
            tick.rings(b, at, now)
    with b.if_((load_atomic(b, at["request"]) | looks(b)) != 0):
        b.ret(REASON["request"])
    with b.if_(ic >= end):
        b.ret(REASON["budget"])
    if tick.takes_part(layout):  # behind the budget: nothing comes into a single step
        with b.if_(tick.pending(b, at), False):
            tick.deliver(b, layout)
    found = b.call("find")
    with b.if_(found == 0):
        b.tail("@not_found")
    b.call("copy", found)
    runs = b.load(found)
    with b.if_((runs == usual_head(b, at)) | (runs == special(b, at, "counting")) | copied(b, at, runs)):
        seen = b.load(found + HEAD["samples"], 32) + 1
        b.store(found + HEAD["samples"], seen, 32)
        with b.if_((seen >= b.get(at["hot_after"])) & (((seen & (seen - 1)) == 0) | ((seen & (SELDOM - 1)) == 0))):
            b.put(at["hot"], found)
            b.ret(REASON["hot"])
    b.tail("@jump")
    return b.text()


@contextmanager
def alarm_due(b: Native, at: dict[str, int]) -> Iterator[None]:
    """What is to be done if the host's clock shows that the next alarm is due."""
    with b.if_(b.get(at["alarm"]) != NEVER, False), b.if_(host_time(b, at) >= b.get(at["alarm"]), False):
        yield


@contextmanager
def tick_due(b: Native, at: dict[str, int]) -> Iterator[V]:
    """What is to be done if the processor's own timer rings, at this virtual time."""
    with b.if_(b.get(at["tick_at"]) != NEVER, False):
        now = b.call("virtual_time")
        with b.if_(tick.due(b, at, now), False):
            yield now


def next_look(b: Native, at: dict[str, int], ic: V, end: V) -> V:
    """When to look again: where the instruction counter then stands is a sample of where the time goes."""
    soon = ic + ((ic & (SAMPLE - 1)) + SAMPLE)
    return b.choose(soon < end, soon, end)


def run(at: dict[str, int], layout: Layout) -> str:
    """Enter native code: at the record `resume`, or at `pc`."""
    b = Native("define dso_local i64 @run(ptr %st) nounwind")
    put_atomic(b, at["inside"], 1)
    reason = b.call("go_on")
    publish(b, state_word(b, at, "inside"), 0)
    b.ret(reason)
    text = b.text()
    b = function("go_on")
    floats = Surroundings(b, layout)
    put_atomic(b, at["deadline"], next_look(b, at, b.get(at["icount"]), b.get(at["budget_end"])).name)
    b.do("fence seq_cst")
    put_atomic(b, at["asked"], 0)
    with alarm_due(b, at):  # a guest that leaves often gets to no look
        put_atomic(b, at["deadline"], 0)
    if tick.takes_part(layout):
        with tick_due(b, at):
            put_atomic(b, at["deadline"], 0)
        with b.if_(tick.pending(b, at), False):
            put_atomic(b, at["deadline"], 0)
    resume = b.get(at["resume"])
    tlb = b.pointer(b.get(at["tlb"]))
    ic = b.get(at["icount"])
    with b.if_(resume != 0):
        b.put(at["resume"], 0)
        with b.if_(load_atomic(b, at["request"]) != 0):
            put_atomic(b, at["deadline"], 0)  # at the next head
        with b.if_((load_atomic(b, at["request"]) | load_atomic(b, at["interrupt_pending"])) != 0):
            put_atomic(b, at["deadline"], 0)  # once the instruction is done
        h = b.pointer(b.load(resume))
        floats.enter()
        r = b.let(f"call preserve_nonecc i64 {h}(ptr %st, ptr {b.pointer(resume)}, ptr {tlb}, i64 {ic.name})")
        floats.leave()
        b.end(f"ret i64 {r}")
    with b.if_(load_atomic(b, at["request"]) != 0):
        b.ret(REASON["request"])
    floats.enter()
    r = b.let(f"call preserve_nonecc i64 @jump(ptr %st, ptr null, ptr {tlb}, i64 {ic.name})")
    floats.leave()
    b.end(f"ret i64 {r}")
    text += b.text()
    # the addresses of everything that other code refers to
    b = Native("define dso_local i64 @fill_tables(ptr %st, i64 %special) nounwind")
    from exuvia.codegen.layout import runtime_at

    for name in RUNTIME:
        b.do(f"store ptr @{name}, ptr {b.field(runtime_at(name))}")
    for i, name in enumerate(SPECIAL):
        b.do(f"store ptr @h_{name}, ptr {b.pointer(b.arg('special') + 8 * i)}")
    b.ret(0)
    return text + b.text()
