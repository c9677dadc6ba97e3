"""SSE3 without its arithmetic on floats (SDM vol. 1, 12.3; vol. 2)."""

from __future__ import annotations

from exuvia.isa.x86.forms import pure
from exuvia.isa.x86.mmx import move
from exuvia.isa.x86.vector import spread

# fmt: off
move("F2 0F F0 Vx,Mx", "lddqu", unaligned=True, sse=True, feature="pni")
pure("F2 0F 12 Vx,Wq", lambda a, b: spread(b.low(64), 128),                "movddup",  sse=True, feature="pni")
pure("F3 0F 12 Vx,Wx", lambda a, b: b.shuffle(b.read(), 32, 0, 0, 2, 2),   "movsldup", sse=True, feature="pni")
pure("F3 0F 16 Vx,Wx", lambda a, b: b.shuffle(b.read(), 32, 1, 1, 3, 3),   "movshdup", sse=True, feature="pni")
