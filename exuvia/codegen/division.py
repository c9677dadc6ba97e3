"""128-bit division as a function of the module that needs it: hosts have no instruction, and LLVM would call a C library."""

_SHELL = """
define internal i128 @{name}128(i128 %n, i128 %d) nounwind noinline {{
entry:
{before}  br label %loop
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
{after}}}
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
DEFINITIONS = {
    "udiv128": _SHELL.format(name="udiv", before="", n="%n", d="%d", after="  ret i128 %q2\n"),
    "urem128": _SHELL.format(name="urem", before="", n="%n", d="%d", after="  ret i128 %r3\n"),
    "sdiv128": _SHELL.format(name="sdiv", before=_SIGNED, n="%n2", d="%d2", after=_NEGATE.format(sign="xor i128 %sn, %sd", what="%q2")),
    "srem128": _SHELL.format(name="srem", before=_SIGNED, n="%n2", d="%d2", after=_NEGATE.format(sign="add i128 %sn, 0", what="%r3")),
}


def define(declares: set[str]) -> str:
    """Declarations as module text, with those divisions that are asked for defined."""
    text = []
    for line in sorted(declares):
        name = line.split("@", 1)[1].split("(")[0]
        text.append(DEFINITIONS.get(name, line))
    return "\n".join(text) + "\n"
