"""Which status flags an instruction leaves undefined, and which of its results: Intel SDM vol. 2, "Flags Affected" of each page."""

from __future__ import annotations

CF, PF, AF, ZF, SF, OF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 11
STATUS = CF | PF | AF | ZF | SF | OF

ALWAYS: dict[str, int] = {
    **dict.fromkeys(("and", "or", "xor", "test"), AF),
    **dict.fromkeys(("mul", "imul"), SF | ZF | AF | PF),
    **dict.fromkeys(("div", "idiv"), STATUS),
    **dict.fromkeys(("bt", "bts", "btr", "btc"), OF | SF | AF | PF),
    **dict.fromkeys(("bsf", "bsr"), STATUS & ~ZF),
    **dict.fromkeys(("tzcnt", "lzcnt"), OF | SF | AF | PF),
    **dict.fromkeys(("aaa", "aas"), OF | SF | ZF | PF),
    **dict.fromkeys(("aam", "aad"), OF | AF | CF),
    **dict.fromkeys(("daa", "das"), OF),
    **dict.fromkeys(("andn", "blsi", "blsmsk", "blsr", "bzhi"), AF | PF),
    "bextr": AF | SF | PF,
}
SHIFTS = ("shl", "sal", "shr", "sar")
ROTATES = ("rol", "ror", "rcl", "rcr")
DOUBLE_SHIFTS = ("shld", "shrd")


def undefined_flags(mnemonic: str, size: int, count: int | None = None) -> int:
    """The RFLAGS bits that `mnemonic` leaves undefined, for an operand of `size` bits.

    `count` is a shift's or rotate's count as the operand holds it; the processor's masking to 5 or 6 bits is done here.
    """
    if mnemonic in ALWAYS:
        return ALWAYS[mnemonic]
    if mnemonic not in SHIFTS + ROTATES + DOUBLE_SHIFTS:
        return 0
    if count is None:
        raise ValueError(f"{mnemonic}: which flags are undefined depends on the count")
    count &= 63 if size == 64 else 31
    if count == 0:
        return 0
    overflow = OF if count > 1 else 0
    if mnemonic in ROTATES:
        return overflow
    if mnemonic in DOUBLE_SHIFTS:
        return STATUS if count > size else AF | overflow
    carry = CF if mnemonic != "sar" and count >= size else 0
    return AF | overflow | carry


def undefined_result(mnemonic: str, size: int, count: int | None = None, source: int | None = None) -> bool:
    """Whether the destination itself is undefined: SHLD/SHRD past the operand's size, BSF/BSR of zero.

    Every processor leaves BSF's and BSR's destination as it was; AMD's manual says so, and software counts on it.
    """
    if mnemonic in DOUBLE_SHIFTS and count is not None:
        return (count & (63 if size == 64 else 31)) > size
    return mnemonic in ("bsf", "bsr") and source == 0
