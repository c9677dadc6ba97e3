"""The core module of an architecture: the runtime, its decoder and its page walk, as one piece of LLVM text."""

from __future__ import annotations

from exuvia.codegen.division import define
from exuvia.codegen.emit import PROFILE
from exuvia.codegen.floats import declares as float_declares
from exuvia.codegen.registers import NativeText
from exuvia.codegen.runtime import blocks, control, copying, limit, memory, sharing
from exuvia.dsl.architecture import Architecture


def source(architecture: Architecture) -> str:
    """LLVM text; the functions that Python calls are external, all others internal."""
    layout = architecture.layout
    text = [memory.source(layout), blocks.source(layout, architecture.no_index), limit.source(layout)]
    text += [copying.source(layout, architecture.no_index), sharing.source(layout), control.source(layout, architecture.no_index)]
    declares: set[str] = float_declares()
    e = NativeText(layout)
    decode = architecture.decode.trace
    text.append(e.text("decode_one", decode, [64] * 4, decode.__dict__["result"]))
    declares |= e.declares
    e = NativeText(layout)
    text.append(e.text("walk", architecture.walk(), [64] * 3, None))
    declares |= e.declares
    return "".join(text) + define(declares) + PROFILE
