"""Functions of guest values, compiled by LLVM and called from Python: the other engine that the texts are tried on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from exuvia.codegen.emit import PROFILE, Emitter
from exuvia.codegen.hostfloats import Instruction
from exuvia.dsl.trace import Function


class Plain(Emitter):
    """A module of functions that call each other directly."""

    def __init__(self, wanted: list[Function]) -> None:
        super().__init__()
        self.wanted: list[Function] = list(wanted)
        self.texts: list[str] = []

    def function(self, f: Function) -> str:
        if f not in self.wanted:
            self.wanted.append(f)
        return f"@{f.name}"

    def module(self) -> str:
        """LLVM text: every function, and `call_NAME(ptr arguments, ptr result)` with 32 bytes for each value."""
        for f in self.wanted:
            self.out, self.cold, self.label = [], [], "entry"
            i = Instruction(f.trace)
            self.effects(f.trace.body, i)
            self.do(f"ret i{f.returns} {self.value(f.trace.result, i)}")  # type: ignore[attr-defined]
            arguments = ", ".join(f"i{w} %a{n}" for n, w in enumerate(f.widths))
            body = "\n".join([*self.out, *self.cold])
            self.texts.append(f"define internal i{f.returns} @{f.name}({arguments}) {{\nentry:\n{body}\n}}")
            loads = "".join(
                f"  %p{n} = getelementptr i8, ptr %in, i64 {32 * n}\n  %a{n} = load i{w}, ptr %p{n}, align 1\n"
                for n, w in enumerate(f.widths)
            )
            call = f"  %r = call i{f.returns} @{f.name}({arguments})\n  store i{f.returns} %r, ptr %out, align 1\n  ret void"
            self.texts.append(f"define void @call_{f.name}(ptr %in, ptr %out) {{\n{loads}{call}\n}}")
        return "\n".join([*sorted(self.declares), *self.texts, PROFILE])


def compiled(functions: list[Function], level: int = 1) -> dict[str, Callable[..., int]]:
    """Python callables for these functions, by name."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(Plain(functions).module())
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=level, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    engine: Any = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return {f.name: caller(engine, f) for f in functions}


def caller(engine: Any, f: Function) -> Callable[..., int]:
    """One of them."""
    enter = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address(f"call_{f.name}"))
    given, answer = (ctypes.c_uint8 * (32 * len(f.widths)))(), (ctypes.c_uint8 * 32)()
    mask = (1 << f.returns) - 1

    def call(*args: int) -> int:
        given[:] = list(b"".join(x.to_bytes(32, "little") for x in args))
        enter(ctypes.addressof(given), ctypes.addressof(answer))
        return int.from_bytes(answer, "little") & mask

    call.__dict__["engine"] = engine
    return call
