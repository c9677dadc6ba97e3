"""What KVM the tests' host has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exuvia.vcpu.accelerators import Unavailable
from exuvia.vcpu.kvm import api
from exuvia.vcpu.kvm.vm import open_device


def _unusable() -> str | None:
    try:
        device = open_device()
    except Unavailable as reason:
        return str(reason)
    try:
        os.close(api.ioctl(device, api.CREATE_VM))
    except OSError as error:
        return f"/dev/kvm gives no virtual machine: {error.strerror}"
    finally:
        os.close(device)
    return None


UNUSABLE = _unusable()
KINDS = ["kvm-pvm"] if Path("/sys/module/kvm_pvm").exists() else []
"""Kinds of KVM that the guests' programs name."""
needs_kvm = pytest.mark.skipif(UNUSABLE is not None, reason=UNUSABLE or "")
