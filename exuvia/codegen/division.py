"""128-bit division as a function of the module that needs it: hosts have no instruction for all of it, and LLVM would call a C library.

Where the quotient fits 64 bits, which is what guests divide, an x86 host's DIV does it (SDM vol. 2, DIV); others where both numbers do.
"""

from __future__ import annotations

from functools import cache

from exuvia.codegen.instructions import host

_SHELL = """
define internal i128 @{name}128(i128 %n, i128 %d) nounwind noinline {{
entry:
{before}  %above = lshr i128 {n}, 64
  %nl = trunc i128 {n} to i64
  %nh = trunc i128 %above to i64
  %dl = trunc i128 {d} to i64
  %small = icmp ult i128 {d}, 18446744073709551616
  %fits64 = icmp ult i64 %nh, {bound}
  %short = and i1 %small, %fits64
  br i1 %short, label %fast, label %loop
fast:
{fast}  %q64 = zext i64 %q0 to i128
  %r64 = zext i64 %r0 to i128
  br label %done
loop:
  %i = phi i128 [ 127, %entry ], [ %i2, %loop ]
  %q = phi i128 [ 0, %entry ], [ %q2, %loop ]
  %r = phi i128 [ 0, %entry ], [ %r3, %loop ]
  %b = lshr i128 {n}, %i
  %b1 = and i128 %b, 1
  %over = icmp slt i128 %r, 0
  %r1 = shl i128 %r, 1
  %r2 = or i128 %r1, %b1
  %fits = icmp uge i128 %r2, {d}
  %ge = or i1 %fits, %over
  %s = sub i128 %r2, {d}
  %r3 = select i1 %ge, i128 %s, i128 %r2
  %qs = shl i128 %q, 1
  %gz = zext i1 %ge to i128
  %q2 = or i128 %qs, %gz
  %i2 = sub i128 %i, 1
  %more = icmp ne i128 %i, 0
  br i1 %more, label %loop, label %done
done:
  %quotient = phi i128 [ %q64, %fast ], [ %q2, %loop ]
  %remainder = phi i128 [ %r64, %fast ], [ %r3, %loop ]
{after}}}
"""
_DIV = """  %both = call {i64, i64} asm "divq $4", "={ax},={dx},0,1,r,~{dirflag},~{fpsr},~{flags}"(i64 %nl, i64 %nh, i64 %dl)
  %q0 = extractvalue {i64, i64} %both, 0
  %r0 = extractvalue {i64, i64} %both, 1
"""
_LOW = """  %q0 = udiv i64 %nl, %dl
  %r0 = urem i64 %nl, %dl
"""
_SIGNED = """  %sn = ashr i128 %n, 127
  %sd = ashr i128 %d, 127
  %n1 = xor i128 %n, %sn
  %n2 = sub i128 %n1, %sn
  %d1 = xor i128 %d, %sd
  %d2 = sub i128 %d1, %sd
"""
_NEGATE = """  %sign = {sign}
  %x = xor i128 {what}, %sign
  %y = sub i128 %x, %sign
  ret i128 %y
"""


@cache
def definitions() -> dict[str, str]:
    """The functions, by name."""
    x86 = host()[0].startswith("x86_64")
    common = dict(bound="%dl" if x86 else "1", fast=_DIV if x86 else _LOW)
    plain = dict(before="", n="%n", d="%d", **common)
    signed = dict(before=_SIGNED, n="%n2", d="%d2", **common)
    return {
        "udiv128": _SHELL.format(name="udiv", after="  ret i128 %quotient\n", **plain),
        "urem128": _SHELL.format(name="urem", after="  ret i128 %remainder\n", **plain),
        "sdiv128": _SHELL.format(name="sdiv", after=_NEGATE.format(sign="xor i128 %sn, %sd", what="%quotient"), **signed),
        "srem128": _SHELL.format(name="srem", after=_NEGATE.format(sign="add i128 %sn, 0", what="%remainder"), **signed),
    }


def define(declares: set[str]) -> str:
    """Declarations as module text, with those divisions that are asked for defined."""
    text = []
    for line in sorted(declares):
        name = line.split("@", 1)[1].split("(")[0]
        text.append(definitions().get(name, line))
    return "\n".join(text) + "\n"
