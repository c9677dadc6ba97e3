"""Floats that the host's processor computes exactly as the guest's would, exceptions included: a guest's text may ask for them by name.

Where `host_floats()` is false nothing here is ever run: the text says what happens then, and that remains the definition. Where it is true
the host's control words are the guest's with all exceptions masked (so ask only where the guest masks them), and its sticky flags, those of
vector floats and the x87's, are exceptions that the guest has not taken over yet.
"""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import now
from exuvia.dsl.values import Node, Value


def host_floats(feature: str = "avx") -> Value:
    """Does the host compute floats as the guest does, with the instructions of this feature too?"""
    return Value(Node("host_floats", 1, (), feature))


def evenly() -> Value:
    """Does the host's x87 take denormals, infinities and NaNs as fast as other numbers? AMD's does (measured on Zen 5, which CLZERO stands
    for here); others take hundreds of cycles, and an engine should then compute by itself."""
    return host_floats("clzero")


def on_host(instruction: str, w: int, *args: Any) -> Value:
    """What the instruction gives (w bits): one of those that engines know by the guest's name."""
    return now().effect("host", w, *args, attr=instruction)


def vector_control() -> Value:
    """The host's word for vector floats (32 bits): control and sticky flags."""
    return now().effect("host_control", 32)


def set_vector_control(word: Value) -> None:
    """Replace it."""
    now().effect("set_host_control", 0, word)


def status(result: Value) -> Value:
    """The x87's status word after what gave the result (16 bits): only conditions, exceptions are in `stack_exceptions`."""
    return Value(Node("host_status", 16, (result.n,)))


def stack_exceptions() -> Value:
    """The x87's exceptions (16 bits of status word) since `forget_exceptions`."""
    return now().effect("host_stack", 16)


def set_stack_control(word: Value) -> None:
    """Replace the x87's control word (16 bits)."""
    now().effect("set_host_stack", 0, word)


def forget_exceptions() -> None:
    """The x87's: the guest has taken them over, or cleared them."""
    now().effect("clear_host_stack", 0)
