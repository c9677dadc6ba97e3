"""host_device: a block device of the host (/dev/sda, a loop device, a logical volume)."""

from __future__ import annotations

import os
import stat

from exuvia.disk.node import Unsupported
from exuvia.disk.protocols.file import File
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class HostDevice(File):
    """As a file that has its size for good; holes are punched and zeros made where the device can."""

    name = "host_device"
    schemes = ("host_device",)

    @classmethod
    def describe(cls, name: str) -> dict[str, Any]:
        """`host_device:PATH`, for a path whose look does not say it."""
        return {"driver": cls.name, "filename": name.partition(":")[2]}

    def check_kind(self, status: os.stat_result) -> None:
        if not stat.S_ISBLK(status.st_mode) and not stat.S_ISCHR(status.st_mode):
            raise UserError(f"Could not open '{self.filename}': '{self.name}' driver requires '{self.filename}' to be a block device")

    @property
    def size(self) -> int:  # type: ignore[override]
        """As the kernel has it now."""
        return os.lseek(self.fd, 0, os.SEEK_END)

    def resize(self, size: int, preallocation: str = "off") -> None:
        if size != self.size:
            raise Unsupported(f"{self.filename}: Cannot {'grow' if size > self.size else 'shrink'} device files")
