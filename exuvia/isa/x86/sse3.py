"""SSE3 without its arithmetic on floats (SDM vol. 1, 12.3; vol. 2)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.lanes import spread
from exuvia.isa.x86.forms import pure
from exuvia.isa.x86.mmx import move
from exuvia.isa.x86.vector import within

PNI: dict[str, Any] = {"sse": True, "feature": "pni"}

# fmt: off
move("F2 0F F0 Vx,Mx", "lddqu", unaligned=True, vex="avx", **PNI)
pure("F2 0F 12 Vx,Wq", lambda a, b: spread(b.low(64), 128), "movddup", vex="128", **PNI)
pure("VEX.256.F2 0F 12 Vx,Wx", lambda a, b: within(b, b, 64, (0, 0)), "vmovddup", avx=True, feature="avx")
pure("F3 0F 12 Vx,Wx", lambda a, b: within(b, b, 32, (0, 0, 2, 2)), "movsldup", vex="avx", **PNI)
pure("F3 0F 16 Vx,Wx", lambda a, b: within(b, b, 32, (1, 1, 3, 3)), "movshdup", vex="avx", **PNI)
