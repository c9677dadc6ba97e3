"""Functions that some hosts have an instruction for. The function's text remains the definition; a test compares the two."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

BYTES, WORDS, QUADS = "<16 x i8>", "<4 x i32>", "<2 x i64>"


class HostInstruction(NamedTuple):
    """An LLVM intrinsic of hosts with this prefix in their triple and this feature; `extra`: constant arguments behind the others."""

    triple: str
    feature: str
    intrinsic: str
    result: str
    types: tuple[str, ...]
    extra: tuple[str, ...] = ()


def _x86(feature: str, name: str, result: str, *types: str, extra: tuple[str, ...] = ()) -> HostInstruction:
    return HostInstruction("x86_64", feature, f"llvm.x86.{name}", result, types, extra)


INSTRUCTIONS: dict[str, HostInstruction] = {
    "pick_bytes_128": _x86("ssse3", "ssse3.pshuf.b.128", BYTES, BYTES, BYTES),
    "aes_encrypt": _x86("aes", "aesni.aesenc", QUADS, QUADS, QUADS),
    "aes_encrypt_last": _x86("aes", "aesni.aesenclast", QUADS, QUADS, QUADS),
    "aes_decrypt": _x86("aes", "aesni.aesdec", QUADS, QUADS, QUADS),
    "aes_decrypt_last": _x86("aes", "aesni.aesdeclast", QUADS, QUADS, QUADS),
    "multiply_without_carry": _x86("pclmul", "pclmulqdq", QUADS, QUADS, QUADS, extra=("i8 0",)),
    "permute_words": _x86("avx2", "avx2.permd", "<8 x i32>", "<8 x i32>", "<8 x i32>"),
    "sha256_rounds": _x86("sha", "sha256rnds2", WORDS, WORDS, WORDS, WORDS),
    "crc32c_8": _x86("sse4.2", "sse42.crc32.32.8", "i32", "i32", "i8"),
    "crc32c_16": _x86("sse4.2", "sse42.crc32.32.16", "i32", "i32", "i16"),
    "crc32c_32": _x86("sse4.2", "sse42.crc32.32.32", "i32", "i32", "i32"),
    "crc32c_64": _x86("sse4.2", "sse42.crc32.64.64", "i64", "i64", "i64"),
}


@cache
def host() -> tuple[str, frozenset[str]]:
    """The host's triple and what its processor has."""
    import llvmlite.binding as llvm

    return llvm.get_default_triple(), frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@cache
def host_instruction(name: str) -> HostInstruction | None:
    """What this host has for the function of this name."""
    found = INSTRUCTIONS.get(name)
    if found is None:
        return None
    triple, features = host()
    return found if triple.startswith(found.triple) and found.feature in features else None
