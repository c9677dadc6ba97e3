"""What the processors of a machine share while each runs in a thread of its own: the lock of the block cache, and when a store has passed.

The lock guards heads, lists of heads, the arena and the masks of pages. Only who finds, makes or drops blocks takes it; who runs them
never does, and reads each word once. `inside` says that a processor is in native code and may have a store on its way; whoever waits
for the lock has none, and says so, for the lock's owner may be waiting for that (`settle`).
"""

from __future__ import annotations

from exuvia.codegen.instructions import host
from exuvia.codegen.layout import CACHE
from exuvia.codegen.native import Native, V
from exuvia.codegen.runtime.memory import function, words
from exuvia.dsl.state import Layout

SPINS = 64  # looks at a word before another thread of the host's is let run


def source(layout: Layout) -> str:
    """LLVM text of this part."""
    at = words(layout)
    return lock(at) + settle(at) + waiting(at)


def atomic(b: Native, address: V) -> V:
    """A word that others write; what they wrote before is seen too."""
    return V(b, b.let(f"load atomic i64, ptr {b.pointer(address)} acquire, align 8"))


def publish(b: Native, address: V, x: object) -> None:
    """Write a word that others read; what was written before is seen by them too."""
    b.do(f"store atomic i64 {x.name if isinstance(x, V) else x}, ptr {b.pointer(address)} release, align 8")


def cache_word(b: Native, at: dict[str, int], name: str) -> V:
    """The address of a word of the block cache."""
    return b.get(at["cache"]) + CACHE[name]


def state_word(b: Native, at: dict[str, int], name: str, state: V | None = None) -> V:
    """The address of a word of a processor's state."""
    return (b.arg("st", True) if state is None else state) + at[name]


def lock(at: dict[str, int]) -> str:
    """`take` and `give`; `hold` and `let_go` are Python's, which may come with any processor's state."""

    def grab(b: Native) -> V:
        return V(b, b.let(f"atomicrmw xchg ptr {b.pointer(cache_word(b, at, 'lock'))}, i64 1 seq_cst, align 8"))

    def spin(b: Native) -> None:
        tries = b.var(0)
        with b.loop():
            b.call("wait_a_little", tries.v)
            tries.v = tries.v + 1
            with b.if_(atomic(b, cache_word(b, at, "lock")) == 0):
                b.break_if(grab(b) == 0)

    b = function("take")
    with b.if_(grab(b) == 0, True):
        b.ret(0)
    was = b.get(at["inside"])
    publish(b, state_word(b, at, "inside"), 0)
    spin(b)
    publish(b, state_word(b, at, "inside"), was)
    b.do("fence seq_cst")
    b.ret(0)
    text = b.text()
    b = function("give")
    publish(b, cache_word(b, at, "lock"), 0)
    b.ret(0)
    text += b.text()
    b = Native("define dso_local i64 @hold(ptr %st) nounwind")
    with b.if_(grab(b) == 0, True):
        b.ret(0)
    spin(b)
    b.ret(0)
    text += b.text()
    b = Native("define dso_local i64 @let_go(ptr %st) nounwind")
    b.ret(b.call("give"))
    return text + b.text()


def settle(at: dict[str, int]) -> str:
    """(own state, or 0): every other processor has left native code or come to a head, and what it stored on the strength of an earlier
    look is in memory."""
    b = function("settle", "own")
    count = b.load(cache_word(b, at, "processors"))
    with b.if_(count == 1, True):
        b.ret(0)
    b.do("fence seq_cst")
    for waits in (False, True):
        k = b.var(0)
        with b.loop():
            b.break_if(k.v == count)
            other = b.load(b.load(cache_word(b, at, "states")) + (k.v << 3))
            with b.if_((other != 0) & (other != b.arg("own"))):
                if waits:
                    tries = b.var(0)
                    tries.v = 0
                    with b.loop():
                        b.break_if(atomic(b, state_word(b, at, "asked", other)) == 0)
                        b.break_if(atomic(b, state_word(b, at, "inside", other)) == 0)
                        b.call("wait_a_little", tries.v)
                        tries.v = tries.v + 1
                else:
                    with b.if_(atomic(b, state_word(b, at, "inside", other)) != 0):
                        publish(b, state_word(b, at, "asked", other), 1)
                        publish(b, state_word(b, at, "deadline", other), 0)
            k.v = k.v + 1
    b.ret(0)
    text = b.text()
    b = Native("define dso_local i64 @settled(ptr %st) nounwind")  # for Python, of all processors
    b.ret(b.call("settle", 0))
    return text + b.text()


def waiting(at: dict[str, int]) -> str:
    """`wait_a_little` (how often before) and `relax`, which is what a guest's own waiting loop does."""
    b = function("wait_a_little", "tries")
    if host()[0].startswith("x86"):
        b.do("call void @llvm.x86.sse2.pause()")
    with b.if_((b.arg("tries") & (SPINS - 1)) == SPINS - 1, False):
        f = b.pointer(b.load(cache_word(b, at, "let_others")))
        b.let(f"call i32 {f}()")
    b.ret(0)
    text = b.text()
    b = Native("define dso_local i64 @relax(ptr %st) nounwind noinline")
    count = b.get(at["pauses"])
    b.put(at["pauses"], count + 1)
    b.ret(b.call("wait_a_little", count))
    return text + b.text() + ("declare void @llvm.x86.sse2.pause()\n" if host()[0].startswith("x86") else "")
