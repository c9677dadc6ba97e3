"""The decoder's own text, run on Python integers."""

from __future__ import annotations

from functools import cache

from exuvia.dsl.record import FIELDS, RECORD
from exuvia.isa.mips import load
from exuvia.isa.mips.decode import DECODE, RESULT_SLOT, Tables, tables
from exuvia.isa.mips.forms import Row
from exuvia.vcpu.evaluate import call

CODE_AT, RECORD_AT, TABLES_AT = 0, 64, 256


class Bytes:
    """The decoder's little memory."""

    def __init__(self, t: Tables) -> None:
        self.memory = bytearray(TABLES_AT) + t.blob

    def load(self, pointer: int, size: int) -> int:
        return int.from_bytes(self.memory[pointer : pointer + size], "little")

    def store(self, pointer: int, size: int, value: int) -> None:
        self.memory[pointer : pointer + size] = value.to_bytes(size, "little")


@cache
def made(mode: int, features: frozenset[str] | None) -> Tables:
    """Tables take a moment."""
    load()
    return tables(mode, features)


def decode(
    code: bytes, offset: int = 0, mode: int = 0, features: frozenset[str] | None = None
) -> tuple[int, list[tuple[Row, dict[str, int]]]]:
    """The decoder's result, and each record's row and fields."""
    t = made(mode, features)
    m = Bytes(t)
    m.memory[CODE_AT : CODE_AT + len(code)] = code
    result = call(DECODE.trace, m, (CODE_AT, RECORD_AT, TABLES_AT, offset))  # type: ignore[arg-type]
    out = []
    for k in range(1 + (result >> 12 & 7)):
        at = RECORD_AT + RECORD * k
        fields = {
            name: int.from_bytes(m.memory[at + o : at + o + w // 8], "little", signed=signed) for name, (o, w, signed) in FIELDS.items()
        }
        out.append((t.row(fields["slot"]), fields))
    return result, out


def decoded(word: int, offset: int = 0) -> tuple[Row, dict[str, int]]:
    """Row and fields of a word by itself."""
    return decode(word.to_bytes(4, "little") + bytes(4), offset)[1][0]


__all__ = ["RESULT_SLOT", "decode", "decoded"]
