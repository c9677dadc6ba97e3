"""-accel: options of QEMU's translator are taken where they say nothing untrue."""

import pytest

from exuvia.cli.accel import described
from exuvia.cli.system import parse
from exuvia.support.errors import UserError


def test_options() -> None:
    assert described("tcg,thread=multi,tb-size=512,split-wx=on") == (["software"], [("thread", "multi")])
    assert described("tcg,thread=single,split-wx=off,regions=off") == (["software"], [("thread", "single"), ("regions", "off")])
    assert described("kvm:tcg,kernel-irqchip=split,thread=multi") == (
        ["kvm", "software"],
        [("kernel-irqchip", "split"), ("thread", "multi")],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tcg,thread=both", "thread is multi or single, not 'both'"),
        ("tcg,tb-size=x", "tb-size is a number of MiB, not 'x'"),
        ("tcg,split-wx=perhaps", "split-wx is on or off, not 'perhaps'"),
        ("tcg,kernel-irqchip=on", "unknown property of -accel 'kernel-irqchip'"),
        ("kvm,thread=multi", "unknown property of -accel 'thread'"),
        ("tcg,one-insn-per-tb=on", "unknown property of -accel 'one-insn-per-tb'"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        described(text)


def test_one_thread_is_for_one_processor() -> None:
    assert parse("test", "x86_64", ["-accel", "tcg,thread=single"]).config().smp == 1
    with pytest.raises(UserError, match="each of 2 processors has a thread of its own"):
        parse("test", "x86_64", ["-accel", "tcg,thread=single", "-smp", "2"]).config()
