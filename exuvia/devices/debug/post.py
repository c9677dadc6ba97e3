"""Port 0x80: the diagnostic code of power-on self tests, and the port that kernels write to pass a microsecond."""

from __future__ import annotations

from exuvia.devices.device import Device, Reg


class Post(Device):
    """Keeps the last code."""

    name = "post"
    window = 1
    accesses = (1,)
    code = Reg(0)
