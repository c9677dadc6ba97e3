"""The interpreter: each handler is one instruction's trace, with operands from its record and registers in the state.

A handler ends in a tail call to the next record's handler. There are two of each that touches memory. The *fast* one checks the TLB with
one compare per access and leaves to `miss` before anything happened. The *careful* one asks the runtime for each access, which may answer
with a bounce buffer (over a page's end, devices, pages with code), and ends in `finish`.
"""

from __future__ import annotations

from typing import Any

from exuvia.codegen.emit import UNLIKELY
from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.layout import (
    ACCESS_ALSO_READ,
    ACCESS_SYSTEM,
    ACCESS_WRITE,
    ADDEND,
    CAREFUL,
    HEAD,
    PLAIN,
    READ,
    SEGMENT_SHIFT,
    TLB_ENTRIES,
    TLB_SIZE,
    WRITE,
    routine_at,
    runtime_at,
)  # fmt: skip
from exuvia.codegen.native import ARGS
from exuvia.codegen.registers import InState, leave_number
from exuvia.dsl.record import FIELDS, LINK, RECORD
from exuvia.dsl.state import PAGE_AT
from exuvia.dsl.trace import Place
from exuvia.dsl.values import Node


class Interpreter(InState):
    """Writes handlers."""

    careful = False
    plain = False  # the record has no index register: it reads as zero
    ends = False

    def handler(self, name: str, trace: Any, kind: int, ends: bool, targets: bool, routine: bool = False) -> str:
        """LLVM text of one handler. `ends`: the block ends here even without a jump; `targets`: the record is followed by a link for its
        target, before the one for the next instruction."""
        self.careful, self.ends, self.targets, self.routine = kind == CAREFUL, ends, targets, routine
        self.plain = kind == PLAIN
        i = Instruction(trace)
        if self.careful:
            for word in ("mmio_next", "bounce_count", "bounce_used", "access_count"):
                self.set_word(word, 0)
        self.also_read = {id(n.args[0]) for n in walk_body(trace.body) if n.op in ("load", "cas")}
        self.effects(trace.body, i)
        if not (trace.body and trace.body[-1].op in ("raise", "retry", "leave", "enter")):
            self.commit(i, trace.env, trace.flags)
        return self.written(name)

    def written(self, name: str) -> str:
        """The function's text."""
        body = "\n".join(self.out + self.cold)
        return f"define preserve_nonecc i64 @{name}({ARGS}) nounwind {{\nentry:\n{body}\n}}\n"

    # -- operands
    def record(self) -> str:
        """The record's address."""
        return "%op"

    def get(self, n: Node, i: Instruction) -> Any:
        if self.plain and n.attr[1] == "index":
            return 0
        return super().get(n, i)

    def field(self, name: str) -> str:
        key = "field", name
        if key not in self.pointers:
            offset, w, signed = FIELDS[name]
            v = self.load(f"i{w}", self.at(offset, self.record()))
            v = v if w == 64 else self.let(f"{'sext' if signed else 'zext'} i{w} {v} to i64")
            self.remember(self.pointers, key, v)
        return self.pointers[key]

    def value_field(self, n: Node, i: Instruction) -> Any:
        return self.field(n.attr)

    def value_this_pc(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 {self.load('i64', self.at(PAGE_AT))}, {self.field('off')}")

    def value_next_pc(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 {self.value_this_pc(n, i)}, {self.field('len')}")

    def value_target(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 {self.value_next_pc(n, i)}, {self.field('imm')}")

    # -- accesses
    def translation(self, n: Node, i: Instruction) -> tuple[Any, Any]:
        """Linear address and access word."""
        access, size, seg = n.attr
        word = size << 8
        if access == "w":
            word |= ACCESS_WRITE | (ACCESS_ALSO_READ if id(n) in self.also_read else 0)
        if seg == "system":
            return self.value(n.args[0], i), word | ACCESS_SYSTEM
        if isinstance(seg, int):
            return self.value(n.args[0], i), word | seg << SEGMENT_SHIFT
        return self.value(n.args[0], i), (word, seg)

    def access_word(self, word: Any) -> Any:
        """With the segment from the record; only the cold side needs it."""
        if isinstance(word, int):
            return word
        return self.let(f"or i64 {self.let(f'shl i64 {self.field(word[1])}, {SEGMENT_SHIFT}')}, {word[0]}")

    def do_translate(self, n: Node, i: Instruction) -> None:
        address, word = self.translation(n, i)
        if self.careful:
            f = self.load("ptr", self.at(runtime_at("access")))
            host = self.let(f"call i64 {f}(ptr %st, ptr %tlb, i64 {address}, i64 {self.access_word(word)})")
            bad, on = self.fresh("C"), self.fresh("L")
            self.do(f"br i1 {self.let(f'icmp eq i64 {host}, 0')}, label %{bad}, label %{on}{UNLIKELY}")
            self.aside(bad, lambda: self.tail_runtime("careful_leave"))
            self.start(on)
            self.remember(i.memo, id(n), self.let(f"inttoptr i64 {host} to ptr"))
            if n.attr[0] == "w":
                self.remember(i.memo, ("bounce", id(n)), self.load("ptr", self.word("bounce_entry")))
            return
        access, size, seg = n.attr
        tlb = self.load("ptr", self.word("tlb_system")) if seg == "system" else "%tlb"
        ok, host = self.hit(tlb, address, access, size)
        on, off = self.fresh("L"), self.fresh("C")
        self.branch(ok, on, off)

        def cold() -> None:
            self.set_word("address", address)
            self.set_word("access", self.access_word(word))
            self.tail_runtime("miss")

        self.aside(off, cold)
        self.start(on)
        self.remember(i.memo, id(n), self.let(f"inttoptr i64 {host} to ptr"))

    def hit(self, tlb: str, address: Any, access: str, size: int) -> tuple[str, str]:
        """(is it in the TLB and inside one page, host address): one compare."""
        index = self.let(f"and i64 {self.let(f'lshr i64 {address}, 12')}, {TLB_ENTRIES - 1}")
        entry = self.let(f"getelementptr [4 x i64], ptr {tlb}, i64 {index}")
        tag = self.load("i64", self.at(WRITE if access == "w" else READ, entry))
        last = address if size == 1 else self.let(f"add i64 {address}, {size - 1}")
        page = self.let(f"and i64 {last}, -4096")
        addend = self.load("i64", self.at(ADDEND, entry))
        return self.let(f"icmp eq i64 {tag}, {page}"), self.let(f"add i64 {address}, {addend}")

    def do_copy(self, n: Node, i: Instruction) -> None:
        self.bulk(n, i, True)

    def do_fill(self, n: Node, i: Instruction) -> None:
        self.bulk(n, i, False)

    def bulk(self, n: Node, i: Instruction, copies: bool) -> None:
        """As many elements as lie inside the pages; 0 where that may be wrong: a TLB miss, DF set, runs that overlap."""
        if self.careful:
            return self.bind(n, i, 0)
        size = n.attr
        shift = size.bit_length() - 1
        dst, count, df = self.value(n.args[0], i), self.value(n.args[2], i), self.value(n.args[3], i)
        source = self.value(n.args[1], i)
        most = count
        fine = self.let(f"icmp eq i64 {df}, 1")
        hosts = []
        for address, access in ((dst, "w"), *([(source, "r")] if copies else [])):
            inside = self.let(f"and i64 {address}, 4095")
            left = self.let(f"lshr i64 {self.let(f'sub i64 4096, {inside}')}, {shift}")
            most = self.call_intrinsic("llvm.umin.i64", "i64", ("i64", most), ("i64", left))
            ok, host = self.hit("%tlb", address, access, 1)
            hosts.append(host)
            fine = self.let(f"and i1 {fine}, {ok}")
        length = self.let(f"shl i64 {most}, {shift}")
        if copies:
            apart = self.let(f"sub i64 {hosts[0]}, {hosts[1]}")
            fine = self.let(f"and i1 {fine}, {self.let(f'icmp uge i64 {apart}, {length}')}")
        go, end, was = self.fresh("T"), self.fresh("J"), self.label
        self.do(f"br i1 {fine}, label %{go}, label %{end}")
        self.start(go)
        pointers = [self.let(f"inttoptr i64 {h} to ptr") for h in hosts]
        if copies:
            self.block_copy(pointers[0], pointers[1], length, size)
        else:
            w = n.args[1].w
            self.each(
                most, lambda k: self.do(f"store i{w} {source}, ptr {self.let(f'getelementptr i{w}, ptr {pointers[0]}, i64 {k}')}, align 1")
            )
        last = self.label
        self.do(f"br label %{end}")
        self.start(end)
        self.remember(i.memo, id(n), self.let(f"phi i64 [ {most}, %{last} ], [ 0, %{was} ]"))

    def block_copy(self, to: str, source: str, length: str, size: int) -> None:
        """Sixty-four bytes at a time, then what is left element by element."""
        blocks = self.let(f"lshr i64 {length}, 6")

        def block(k: str) -> None:
            at = self.let(f"shl i64 {k}, 6")
            a, b = (self.let(f"getelementptr i8, ptr {p}, i64 {at}") for p in (source, to))
            parts = [self.let(f"load <2 x i64>, ptr {self.at(16 * j, a)}, align 1") for j in range(4)]
            for j, v in enumerate(parts):
                self.do(f"store <2 x i64> {v}, ptr {self.at(16 * j, b)}, align 1")

        self.each(blocks, block)
        done = self.let(f"shl i64 {blocks}, 6")
        t = f"i{8 * size}"
        rest = self.let(f"lshr i64 {self.let(f'and i64 {length}, 63')}, {size.bit_length() - 1}")
        a, b = (self.let(f"getelementptr i8, ptr {p}, i64 {done}") for p in (source, to))

        def single(k: str) -> None:
            v = self.let(f"load {t}, ptr {self.let(f'getelementptr {t}, ptr {a}, i64 {k}')}, align 1")
            self.do(f"store {t} {v}, ptr {self.let(f'getelementptr {t}, ptr {b}, i64 {k}')}, align 1")

        self.each(rest, single)

    def each(self, count: str, body: Any) -> None:
        """body(k) for k below count."""
        head, inside, after, source = self.fresh("H"), self.fresh("B"), self.fresh("J"), self.label
        k, following = "%" + self.fresh(), "%" + self.fresh()
        self.do(f"br label %{head}")
        self.start(head)
        self.do(f"{k} = phi i64 [ 0, %{source} ], [ {following}, %{inside} ]")
        self.do(f"br i1 {self.let(f'icmp ult i64 {k}, {count}')}, label %{inside}, label %{after}")
        self.start(inside)
        body(k)
        self.do(f"{following} = add i64 {k}, 1")
        self.do(f"br label %{head}")
        self.start(after)

    # -- stores
    def do_store(self, n: Node, i: Instruction) -> None:
        super().do_store(n, i)
        self.mark_stored(n.args[0], i)

    def do_cas(self, n: Node, i: Instruction) -> None:
        super().do_cas(n, i)
        self.mark_stored(n.args[0], i)

    def do_poke(self, n: Node, i: Instruction) -> None:
        """What is written at once is not done again: where all answers of devices have been used, none is kept."""
        super().do_poke(n, i)
        if self.careful:
            following, done = (self.load("i64", self.word(word)) for word in ("mmio_next", "mmio_done"))
            left = self.let(f"select i1 {self.let(f'icmp eq i64 {following}, {done}')}, i64 0, i64 -1")
            self.set_word("mmio_next", self.let(f"and i64 {following}, {left}"))
            self.set_word("mmio_done", self.let(f"and i64 {done}, {left}"))

    def mark_stored(self, host: Node, i: Instruction) -> None:
        """What only was to be writable stays as it is: a bounce buffer is written out if a store reached it."""
        if self.careful:
            self.do(f"store i64 1, ptr {i.memo['bounce', id(host)]}")

    # -- other effects
    def do_io_in(self, n: Node, i: Instruction) -> None:
        ready = self.let(f"icmp ne i64 {self.load('i64', self.word('io_ready'))}, 0")
        port = self.value(n.args[0], i)
        on, off = self.fresh("L"), self.fresh("C")
        self.branch(ready, on, off)

        def cold() -> None:
            self.set_word("io_port", port)
            self.set_word("io_size", n.w // 8)
            self.tail_runtime("io_in")

        self.aside(off, cold)
        self.start(on)
        self.set_word("io_ready", 0)
        v = self.load("i64", self.word("io_data"))
        self.bind(n, i, v if n.w == 64 else self.let(f"trunc i64 {v} to i{n.w}"))

    def do_io_out(self, n: Node, i: Instruction) -> None:
        port, v = n.args
        self.set_word("io_port", self.value(port, i))
        self.set_word("io_size", v.w // 8)
        x = self.value(v, i)
        self.set_word("io_data", x if isinstance(x, int) or v.w == 64 else self.let(f"zext i{v.w} {x} to i64"))
        self.goes_out = True

    goes_out = False

    def do_flush_tlb(self, n: Node, i: Instruction) -> None:
        f = self.load("ptr", self.at(runtime_at("flush")))
        self.let(f"call i64 {f}(ptr %st, i64 {self.value(n.args[0], i)})")

    def do_invalidate_page(self, n: Node, i: Instruction) -> None:
        f = self.load("ptr", self.at(runtime_at("flush_page")))
        self.let(f"call i64 {f}(ptr %st, i64 {self.value(n.args[0], i)})")

    def do_switch_tlb(self, n: Node, i: Instruction) -> None:
        base = self.load("i64", self.word("tlb_base"))
        offset = self.let(f"mul i64 {self.value(n.args[0], i)}, {TLB_SIZE}")
        self.set_word("tlb", self.let(f"add i64 {base}, {offset}"))

    def do_phys(self, n: Node, i: Instruction) -> None:
        raise NotImplementedError("guest-physical memory is for the page walk")

    # -- ends
    def ending(self, n: Node, i: Instruction) -> None:
        """A branch that does not come back: a fault, or a part of the text that commits on its own."""
        body, _, saved = n.attr
        self.effects_until_end(body, i, saved)

    def effects_until_end(self, body: list[Node], i: Instruction, saved: Any) -> None:
        self.saved, before = saved, getattr(self, "saved", None)
        self.effects(body, i)
        self.saved = before

    saved: Any = None

    def do_raise(self, n: Node, i: Instruction) -> None:
        error = self.value(n.args[0], i) if n.args else 0
        self.set_word("fault_vector", n.attr)
        self.set_word("fault_error", error)
        self.tail_runtime("fault")

    def do_retry(self, n: Node, i: Instruction) -> None:
        self.tail(self.record())

    def do_leave(self, n: Node, i: Instruction) -> None:
        env, flags = self.saved if self.saved is not None else (i.trace.env, i.trace.flags)
        args = [self.value(a, i) for a in n.args]
        self.write_back(i, env, flags, True)
        for k, v in enumerate(args):
            self.set_word(f"arg{k}", v)
        self.set_word("leave", leave_number(n.attr))
        self.tail_runtime("leave")

    def do_enter(self, n: Node, i: Instruction) -> None:
        env, flags = self.saved if self.saved is not None else (i.trace.env, i.trace.flags)
        self.write_back(i, env, flags, True)
        record = self.at(routine_at(self.layout, n.attr))
        self.tail(record)

    def write_back(self, i: Instruction, env: dict[Place, Node], flags: Any, with_pc: bool) -> None:
        """Registers and flags into the state; all values are computed before any is written."""
        writes = []
        for place, n in env.items():
            if place[0] == "var" or place[0] == "pc" and not with_pc:
                continue
            writes.append((place, self.vec(n, i) if place[2] == 128 else self.value(n, i)))
        if with_pc and not self.routine and not any(place[0] == "pc" for place, _ in writes):
            writes.append((("pc", 0, 64), self.value(Node("next_pc", 64), i)))
        flag_words = []
        if flags is not None:
            from exuvia.dsl.trace import substitute

            rules = i.trace.rules
            assert rules is not None
            widths = tuple(a.w for a in flags.args)
            for name, place in rules.words.items():
                key = "flag", id(flags), name
                node = i.memo.get(key)
                if node is None:
                    node = i.memo[key] = substitute(rules.meaning(flags.rule, widths, name), flags.args)
                flag_words.append((place, self.value(node, i)))
        for place, v in writes:
            if place[0] == "pc":
                self.set_word("pc", v)
            else:
                self.put(place, v)
        for place, v in flag_words:
            self.put(place, v)

    def commit(self, i: Instruction, env: dict[Place, Node], flags: Any) -> None:
        pc = env.get(("pc", 0, 64))
        if self.careful or self.goes_out:
            self.write_back(i, env, flags, True)
            return self.tail_runtime("leave_out" if self.goes_out else "finish")
        if pc is None:
            self.write_back(i, env, flags, self.ends)
            if self.ends:
                return self.tail_runtime("fresh")
            return self.following()
        if pc.op in ("select", "merge") and pc.args[1].op == "target" and is_next(pc.args[2]):
            return self.either_way(pc, i, env, flags)
        where, again = self.follow(pc, i)
        if where is None:
            v = self.value(pc, i)
            self.write_back(i, env, flags, False)
            if "switch_tlb" not in {n.op for n in walk_body(i.trace.body)}:
                return self.enter_block(self.found(v, "%ic"))
            self.set_word("pc", v)
            return self.tail_runtime("fresh")
        self.write_back(i, env, flags, False)
        if again is None:
            return self.leave_by(where)
        back, on = self.fresh("L"), self.fresh("L")
        self.do(f"br i1 {again}, label %{back}, label %{on}")
        self.aside(back, lambda: self.tail_runtime("again"))
        self.start(on)
        self.leave_by(where)

    def following(self) -> None:
        """On to the next instruction of the block."""
        self.tail(self.at(RECORD, self.record()))

    def either_way(self, pc: Node, i: Instruction, env: dict[Place, Node], flags: Any) -> None:
        """A conditional jump is one of the host's: its prediction is confirmed as soon as the condition is known, not after four loads."""
        condition = self.value(pc.args[0], i)
        self.write_back(i, env, flags, False)
        taken, on = self.fresh("L"), self.fresh("L")
        self.branch(condition, taken, on)
        for k, label in enumerate((taken, on)):
            self.start(label)
            self.leave_by(k, f"# {k}")

    def leave_by(self, k: int, mark: str = "") -> None:
        """Enter the block to which a link leads."""
        self.enter_block(self.link(k), mark)

    def enter_block(self, op: str, mark: str = "") -> None:
        """What the head's handler does, here: an indirect jump less, unless something is to be looked at. Where a handler has two of
        this, marks that differ keep LLVM from making one of them."""
        h = self.load("ptr", op)
        counts, goes, slow = self.fresh("L"), self.fresh("L"), self.fresh("C")
        usual = self.load("ptr", self.at(runtime_at("h_head")))
        self.branch(self.let(f"icmp eq ptr {h}, {usual}"), counts, slow)
        self.start(counts)
        deadline = self.let(f"load atomic i64, ptr {self.word('deadline')} monotonic, align 8")
        self.branch(self.let(f"icmp ult i64 %ic, {deadline}"), goes, slow)

        self.aside(slow, lambda: self.go_to(h, op, "%ic"))
        self.start(goes)
        self.do(f"store ptr {op}, ptr {self.word('current')}")
        n = self.let(f"zext i16 {self.load('i16', self.at(HEAD['n'], op))} to i64")
        body, ic = self.load("ptr", self.at(HEAD["body"], op)), self.let(f"add i64 %ic, {n}")
        if mark:
            self.do(f'call void asm sideeffect "{mark}", ""()')
        self.tail(body, ic)

    def link(self, k: int) -> str:
        return self.load("ptr", self.at(RECORD + k * LINK, self.record()))

    def follow(self, n: Node, i: Instruction) -> tuple[int | None, Any]:
        """(the link to leave by, the condition under which the instruction runs again), or (None, None) for a computed address."""
        if n.op == "target":
            return 0, None
        if is_next(n):
            return 1 if self.targets else 0, None
        if n.op == "this_pc":
            return 0, 1
        if n.op in ("select", "merge"):
            c, yes, no = n.args
            if yes.op == "this_pc" and is_next(no):
                return 0, self.value(c, i)
        return None, None

    def tail(self, op: str, ic: str = "%ic") -> None:
        self.go_to(self.load("ptr", op), op, ic)

    def tail_runtime(self, name: str, op: str = "") -> None:
        self.go_to(self.load("ptr", self.at(runtime_at(name))), op or self.record(), "%ic")


def is_next(n: Node) -> bool:
    """Is this where execution goes on by itself?"""
    return bool(n.op == "get" and n.attr[0] == "pc")


def walk_body(body: list[Node]) -> list[Node]:
    """All effects, also those inside branches and loops."""
    found: list[Node] = []
    for n in body:
        found.append(n)
        if n.op in ("when", "loop"):
            found.extend(walk_body(n.attr[0]))
    return found
