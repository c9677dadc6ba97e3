"""The native engine of a machine: its compiled core, its handlers as they are wanted, its block cache. Processors share one."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from exuvia.codegen.area import Area, Code
from exuvia.codegen.copies import Copies
from exuvia.codegen.host import identity
from exuvia.codegen.hot import Hot
from exuvia.codegen.interpreter import Interpreter
from exuvia.codegen.layout import (
    BUCKETS,
    CACHE,
    CAREFUL,
    INDEXED,
    MODE,
    MODE_ENTRY,
    PAGE_ENTRY,
    PLAIN,
    SLOT_ENTRY,
    SPECIAL,
    TLB_AREA,
    TLB_SIZE,
    routine_at,
)  # fmt: skip
from exuvia.codegen.registers import FUNCTION_NUMBERS, NativeText, function_number
from exuvia.codegen.store import ELSEWHERE, Store, defined
from exuvia.dsl.architecture import Architecture, Form, Tables
from exuvia.dsl.state import JUMPS, JUMPS_AT, STATE_SIZE
from exuvia.dsl.tick import NEVER
from exuvia.dsl.trace import FUNCTIONS, Function

CODE_SIZE = 128 << 20
LOADED = 64 << 20  # of it, what stored code may take; all handlers of all modes of one processor model are 40 MiB
REGION_SIZE = 64 << 20
ARENA_SIZE = 160 << 20
BATCH = 48  # handlers in a module
WANTED = 1024
Progress = Callable[[int, int], None]  # instruction forms compiled, of how many
Word = ctypes.c_uint64


def of_the_host(name: str) -> int:
    """The address of a function of the host's C library."""
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0


def build_identity(architecture: Architecture) -> str:
    """A digest of everything that generated code depends on: our text, LLVM, the host's processor."""
    h = hashlib.blake2b(digest_size=12)
    for file in sources(architecture):
        h.update(file.read_bytes())
    h.update(identity().encode())
    return f"{architecture.name}-{h.hexdigest()}"


def sources(architecture: Architecture) -> list[Path]:
    """The files that generated code depends on."""
    root = Path(__file__).parent.parent
    return [file for part in ("dsl", f"isa/{architecture.name}", "codegen") for file in sorted((root / part).rglob("*.py"))]


def changed_since_start(architecture: Architecture) -> bool:
    """Did a source change after this process began? It may run the old text under the new one's identity: an upgrade, or a developer."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # starttime, proc(5)
        started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
        return any(file.stat().st_mtime > started for file in sources(architecture))
    except (OSError, AttributeError):  # no such host, or a file that is being replaced right now
        return False


class Engine:
    """Compiles and keeps what the processors of one machine run. `features` are the guest's, they choose among encodings."""

    def __init__(
        self,
        architecture: Architecture,
        features: frozenset[str],
        ram: int,
        ram_size: int,
        processors: int = 1,
        progress: Progress | None = None,
        store: Store | None = None,
    ) -> None:
        self.architecture, self.features, self.progress = architecture, features, progress
        self.layout = architecture.layout
        self.code, self.region_code = Code(CODE_SIZE), Code(REGION_SIZE)
        self.symbols: dict[str, int] = {}
        self.store = store or Store(build_identity(architecture))
        self.region_store, self.stencil_store = self.store.beside("regions"), self.store.beside("stencils")
        self.stores = self.store, self.region_store, self.stencil_store
        if changed_since_start(architecture):
            for s in self.stores:
                s.seal("the program's files changed while it was running")
        self.prefixes: dict[int, str] = {}  # mode -> what the names of its handlers begin with
        called: set[str] = set()  # functions, by what is stored
        for batch in self.store.batches():
            functions = defined(batch[1])
            if not functions.keys() <= self.symbols.keys() and self.code.used + len(batch[0]) < LOADED:
                self.take((batch[0], functions))
                called |= batch[1].keys() - functions.keys()
        self.compiled = 0
        self.standstill: Callable[[], AbstractContextManager[None]] = nullcontext  # in which a running machine compiles
        if "core.run" not in self.symbols:
            self.compile_core()
        self.special = (Word * len(SPECIAL))()
        self.functions = (Word * FUNCTION_NUMBERS)()
        if len({function_number(f) for f in FUNCTIONS.values()}) != len(FUNCTIONS):
            raise ValueError("two functions have the same number: rename one")
        for f in FUNCTIONS.values():
            self.functions[function_number(f)] = self.symbols.get(f"f.{f.name}", 0)
        self.compile_functions({name.removeprefix("f.") for name in called})  # those that the store had once, and has no more
        self.pages = Area(max(1, ram_size >> 12) * PAGE_ENTRY + mmap.PAGESIZE)
        self.hash = Area(BUCKETS * 8)
        self.arena = Area(ARENA_SIZE)
        self.tlb = Area(TLB_AREA * processors)
        self.processors = 0
        self.states = (Word * processors)()
        self.cache = (Word * len(CACHE))()
        for name, value in dict(
            ram=ram, ram_size=ram_size, pages=self.pages.address, hash=self.hash.address, arena=self.arena.address,
            arena_end=self.arena.address + ARENA_SIZE, special=ctypes.addressof(self.special), tlb=self.tlb.address,
            processors=processors, states=ctypes.addressof(self.states), let_others=of_the_host("sched_yield"),
            clock_gettime=of_the_host("clock_gettime"),
        ).items():  # fmt: skip
            self.cache[CACHE[name] // 8] = value
        ctypes.memset(self.tlb.address, 255, self.tlb.size)
        self.modes = (Word * (MODE_ENTRY // 8 * architecture.modes))()
        for mode in range(architecture.modes):  # the rest when it is met; an instruction that goes there says where to go on in it
            self.modes[(mode * MODE_ENTRY + MODE["mask"]) // 8] = architecture.address_mask(mode)
        self.tables: dict[int, Tables] = {}
        self.meanings: dict[int, str] = {}  # of tables, by their identity
        self.forms: dict[tuple[int, int], Form] = {}
        self.handler_tables: dict[int, list[ctypes.Array[Word]]] = {}  # by mode and kind
        self.decoders: dict[int, int] = {}  # where what decoders work with is, by the identity of tables
        self.slots = (Word * (64 * SLOT_ENTRY // 8))()
        self.run = self.native("run", 1)
        self._fill_tables = self.native("fill_tables", 2)
        self.flush = self.native("flush", 2)
        self.flush_page = self.native("flush_page", 2)
        self.translate = self.native("translate_for_python", 3)
        self.written = self.native("written", 3)
        self.step = self.native("step", 1)
        self.block = self.native("block", 1)
        self.head_at = self.native("head_at", 4)
        self.agrees = self.native("agrees", 6)
        self.settle = self.native("settled", 1)
        self.divert = self.native("divert", 2)
        self._hold, self._let_go = self.native("hold", 1), self.native("let_go", 1)
        self.counter = self.native("counter", 0)
        self.hot = Hot(self)
        self.copies = Copies(self)

    def native(self, name: str, arguments: int) -> Callable[..., int]:
        """A function of the core, as Python calls it; it runs without the GIL. Whoever has it keeps the engine, and all that it runs in."""
        function = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * arguments)(self.symbols["core." + name])
        function.engine = self  # type: ignore[attr-defined]
        return function

    # -- code
    def take(self, batch: tuple[bytes, dict[str, int]]) -> None:
        """Put a batch into memory and know its functions."""
        base = self.code.place(batch[0])
        for name, offset in batch[1].items():
            self.symbols[name] = base + offset

    def keep(self, batch: tuple[bytes, dict[str, int]], called: Iterable[str] = ()) -> None:
        """Take what was compiled, and store it: without the functions that it calls, it is not to be run."""
        self.take(batch)
        self.store.add((batch[0], dict.fromkeys((f"f.{name}" for name in sorted(called)), ELSEWHERE) | batch[1]))

    def compile_core(self) -> None:
        from exuvia.codegen.build import compile_text
        from exuvia.codegen.core import source

        code, symbols = compile_text(source(self.architecture), 2, True)
        self.keep((code, {"core." + name: offset for name, offset in symbols.items()}))

    def compile_functions(self, names: set[str]) -> None:
        """Soft floats and the like, with those that they call."""
        todo = [n for n in sorted(names) if f"f.{n}" not in self.symbols]
        if todo:
            with self.standstill():
                self._compile_functions(todo)

    def _compile_functions(self, todo: list[str]) -> None:
        from exuvia.codegen.build import compile_text
        from exuvia.codegen.division import define
        from exuvia.codegen.emit import PROFILE

        done: set[str] = set()
        while todo:
            name = todo.pop()
            if name in done or f"f.{name}" in self.symbols:
                continue
            done.add(name)
            f: Function = FUNCTIONS[name]
            e = NativeText(self.layout)
            text = e.text("f", f.trace, list(f.widths), f.trace.__dict__["result"], linkage="")
            code, symbols = compile_text(text + define(e.declares) + PROFILE)
            self.keep((code, {f"f.{name}": symbols["f"]}), e.used)
            self.functions[function_number(f)] = self.symbols[f"f.{name}"]
            todo.extend(e.used)

    def form(self, mode: int, slot: int) -> Form:
        """What a slot means in a mode."""
        if (mode, slot) not in self.forms:
            self.forms[mode, slot] = self.architecture.form(mode, self.tables[mode], slot)
        return self.forms[mode, slot]

    def key(self, mode: int, slot: int, kind: int) -> str:
        return f"{self.prefixes[mode]}{slot}.{int(kind)}"

    def compile(self, mode: int, wanted: Sequence[tuple[int, int]]) -> None:
        """Handlers for pairs of slot and kind (PLAIN, CAREFUL, INDEXED) of a mode."""
        missing = [x for x in dict.fromkeys(wanted) if self.key(mode, *x) not in self.symbols]
        if missing:
            with self.standstill():
                self._compile(mode, missing)
        for slot, kind in wanted:
            self.handler_tables[mode][kind][slot] = self.symbols[self.key(mode, slot, kind)]

    def _compile(self, mode: int, missing: list[tuple[int, int]]) -> None:
        from exuvia.codegen.build import compile_text
        from exuvia.codegen.division import define
        from exuvia.codegen.emit import PROFILE

        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            texts: list[str] = []
            declares: set[str] = set()
            used: set[str] = set()
            for slot, kind in part:
                form = self.form(mode, slot)
                e = Interpreter(self.layout)
                texts.append(e.handler(f"h{slot}.{int(kind)}", form.trace, kind, form.ends, form.targets))
                declares |= e.declares
                used |= e.used
            self.compile_functions(used)
            code, symbols = compile_text("".join(texts) + define(declares) + PROFILE)
            self.keep((code, {self.key(mode, slot, kind): symbols[f"h{slot}.{int(kind)}"] for slot, kind in part}), used)
            self.compiled += len(part)
            self.copies.want(mode, part)
            if self.progress and len(missing) > 2 * BATCH:
                self.progress(min(start + BATCH, len(missing)), len(missing))

    def allot(self, size: int) -> int:
        """Memory beside the blocks, gone with them; 0 where there is none left. For who holds them."""
        at = -(-self.cache[CACHE["arena"] // 8] // 8) * 8
        if at + size > self.cache[CACHE["arena_end"] // 8]:
            return 0
        self.cache[CACHE["arena"] // 8] = at + size
        return int(at)

    def compile_routines(self) -> None:
        from exuvia.codegen.build import compile_text
        from exuvia.codegen.division import define
        from exuvia.codegen.emit import PROFILE

        texts, declares = [], set()
        names = {}
        for name in self.layout.routines:
            for kind in (PLAIN, CAREFUL):
                e = Interpreter(self.layout)
                label = f"r.{name}.{kind}"
                texts.append(e.handler(label, self.architecture.routines[name](), kind, True, False, routine=True))
                declares |= e.declares
                names[label] = label
        code, symbols = compile_text("".join(texts) + define(declares) + PROFILE)
        self.keep((code, {name: symbols[name] for name in names}))

    def make_mode(self, mode: int) -> None:
        """Decoder and handler tables of a mode, when it is first met."""
        if mode in self.tables:  # another processor met it
            return
        t = self.tables[mode] = self.architecture.tables(mode, self.features)
        lazy, careful_lazy = self.special[SPECIAL.index("lazy")], self.special[SPECIAL.index("careful_lazy")]
        handlers = [(Word * t.slots)(*[first] * t.slots) for first in (lazy, careful_lazy, lazy)]
        # features choose among encodings, so what a slot means is part of its handler's name
        prefix = self.prefixes[mode] = f"h.{self.meaning(t)}.{mode}."
        for name, address in self.symbols.items():
            if name.startswith(prefix):
                slot, kind = name[len(prefix) :].split(".")
                handlers[int(kind)][int(slot)] = address
        self.handler_tables[mode] = handlers
        at = mode * MODE_ENTRY // 8
        self.modes[at + MODE["careful"] // 8] = ctypes.addressof(handlers[CAREFUL])
        self.modes[at + MODE["indexed"] // 8] = ctypes.addressof(handlers[INDEXED])
        self.modes[at + MODE["decode"] // 8] = self.decoder(mode, t)
        usual = "limited" if self.architecture.limited(mode) else "head"
        self.modes[at + MODE["head"] // 8] = self.special[SPECIAL.index(usual)]
        self.modes[at + MODE["table"] // 8] = ctypes.addressof(handlers[PLAIN])
        self.copies.mode(mode)
        if not any(name.startswith(prefix) for name in self.symbols):  # the first time: what every guest needs, at once
            self.compile(mode, [(slot, PLAIN) for slot in self.architecture.everyday(mode, t)])

    def meaning(self, t: Tables) -> str:
        """A digest of what all slots mean; most modes share their tables."""
        if id(t) not in self.meanings:
            whole = repr([(row.name, row.text, variant) for row, variant in t.rows])
            self.meanings[id(t)] = hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()
        return self.meanings[id(t)]

    def decoder(self, mode: int, t: Tables) -> int:
        """Where the blob of tables is: it takes long to be made, so it is kept as code is."""
        if id(t) not in self.decoders:
            features = hashlib.blake2b(repr(self.features and sorted(self.features)).encode(), digest_size=8).hexdigest()
            name = f"d.{self.meaning(t)}.{features}.{mode}"
            if name not in self.symbols:
                self.keep((t.blob, {name: 0}))
            self.decoders[id(t)] = self.symbols[name]
        return self.decoders[id(t)]

    # -- states
    def new_state(self) -> State:
        """The state of one more processor."""
        state = State(self, self.tlb.address + TLB_AREA * self.processors)
        self.states[self.processors] = state.address
        self.processors += 1
        self._fill_tables(state.address, ctypes.addressof(self.special))
        if f"r.{self.layout.routines[-1]}.1" not in self.symbols:
            self.compile_routines()
        for name in self.layout.routines:
            at = routine_at(self.layout, name)
            state.put(at, self.symbols[f"r.{name}.0"])
            state.put(at + 24, self.symbols[f"r.{name}.1"])
        return state

    @contextmanager
    def held(self) -> Iterator[None]:
        """Heads, lists of heads and the arena are ours; processors that want to change them wait. Nothing is compiled in here."""
        self._hold(self.states[0])
        try:
            yield
        finally:
            self._let_go(self.states[0])

    def set_slots(self, slots: list[tuple[int, int, int, bool]]) -> None:
        """Where RAM is: (guest-physical start, size, host address, writable)."""
        if len(slots) > 62:
            raise ValueError("more than 62 memory slots")
        for i, (start, size, host, writable) in enumerate([*slots, (0, 0, 0, False)]):
            self.slots[4 * i : 4 * i + 4] = [start, size, host, int(writable)]

    @property
    def empty(self) -> bool:
        """Is there no block: has nothing run since there was none?"""
        return bool(self.cache[CACHE["arena"] // 8] == self.arena.address)

    def drop_blocks(self) -> None:
        """Forget every block: the arena was full."""
        self.hash.clear()
        self.pages.clear()
        self.arena.clear()
        self.cache[CACHE["arena"] // 8] = self.arena.address
        self.copies.clear()
        self.hot.forget()


class State:
    """One processor's state in memory."""

    def __init__(self, engine: Engine, tlb: int) -> None:
        self.area = Area(STATE_SIZE + mmap.PAGESIZE)
        self.wanted = (ctypes.c_uint32 * WANTED)()
        self.address = self.area.address
        self.view = memoryview(self.area.map)
        self.words = self.view.cast("Q")
        layout = engine.layout
        self.index = {name: f.offset // 8 for name, f in layout.files.items() if f.count == 1 and f.width == 64}
        for name, value in dict(
            cache=ctypes.addressof(engine.cache), tlb_base=tlb, tlb_system=tlb + TLB_SIZE, tlb=tlb + TLB_SIZE,
            slots=ctypes.addressof(engine.slots), modes=ctypes.addressof(engine.modes), functions=ctypes.addressof(engine.functions),
            walk_error=(1 << 64) - 1, alarm=NEVER, tick_at=NEVER,
            time_runs=(1 << 64) - 1,
            wanted=ctypes.addressof(self.wanted),
        ).items():  # fmt: skip
            self.words[self.index[name]] = value
        ctypes.memset(self.address + JUMPS_AT, 255, 16 * JUMPS)

    def put(self, offset: int, value: int) -> None:
        """A word by offset."""
        self.words[offset // 8] = value
