"""Conversions between floating point formats and integers (vol. I, table 3.22; vol. II)."""

from __future__ import annotations

from exuvia.isa.mips.fpu import CODES, compute
from exuvia.isa.mips.fpu_host import WIDTHS

for _fmt in "sd":
    for _name, _function in (("round", "00"), ("trunc", "01"), ("ceil", "10"), ("floor", "11")):
        compute(f"010001 {CODES[_fmt]} 00000 fs fd 0010{_function}", f"{_name}.l", _fmt, "fs", 64, feature="r2")
        compute(f"010001 {CODES[_fmt]} 00000 fs fd 0011{_function}", f"{_name}.w", _fmt, "fs", 32)
for _to, _function in (("s", "100000"), ("d", "100001"), ("w", "100100"), ("l", "100101")):
    for _fmt in "sdwl" if _to in "sd" else "sd":
        if _fmt != _to:
            compute(f"010001 {CODES[_fmt]} 00000 fs fd {_function}", f"cvt.{_to}", _fmt, "fs", WIDTHS[_to])
