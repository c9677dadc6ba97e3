"""The oracle itself: results known from the manual, faults, survival, speed."""

from __future__ import annotations

import signal
import struct
import time
from collections.abc import Iterator

import pytest

from tests.oracle.case import CODE, FXSAVE_DEFAULT, WINDOW, WINDOW_SIZE, Case, Result
from tests.oracle.hostcpu import HostCpu, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    with HostCpu() as cpu:
        yield cpu


def run(host: HostCpu, code: str, mode: int = 64, *gprs: int, rflags: int = 0x202) -> Result:
    return host.run(Case(bytes.fromhex(code), mode, list(gprs) + [0] * (16 - len(gprs)), rflags))


def test_add_sets_registers_and_flags(host: HostCpu) -> None:
    result = run(host, "01 C8", 64, 0xFFFF_FFFF, 1)
    assert result.gprs[0] == 0 and result.rflags & 0x8D5 == 0x55 and result.rip == CODE + 2 and result.fault is None


def test_every_register_comes_back(host: HostCpu) -> None:
    gprs = [0x1111_1111_1111_1111 * i for i in range(16)]
    assert host.run(Case(b"\x90", gprs=gprs, rflags=0xAD7)).gprs == gprs
    assert host.run(Case(b"\x90", gprs=gprs, rflags=0xAD7)).rflags == 0xAD7


def test_decimal_adjust_in_32_bit_mode(host: HostCpu) -> None:
    assert run(host, "27", 32, 0x9B).gprs[0] == 0x01
    assert run(host, "D4 0A", 32, 79).gprs[0] == 0x0709
    pushed = run(host, "60", 32, 1, 2, 3, 4, WINDOW + 64, 5, 6, 7)
    assert pushed.gprs[4] == WINDOW + 32
    assert struct.unpack_from("<8I", pushed.memory, 32) == (7, 6, 5, WINDOW + 64, 4, 3, 2, 1)
    assert run(host, "40", 32, 0xFFFF_FFFF).gprs[0] == 0


def test_memory_is_read_and_written(host: HostCpu) -> None:
    memory = bytes(range(256)) * 48
    result = host.run(Case(bytes.fromhex("48 87 08"), gprs=[WINDOW + 4095, 0xAABB] + [0] * 14, memory=memory))
    assert result.gprs[1] == 0x0605_0403_0201_00FF
    assert result.memory == memory[:4095] + struct.pack("<Q", 0xAABB) + memory[4103:]


def test_x87_has_all_80_bits(host: HostCpu) -> None:
    image = bytearray(FXSAVE_DEFAULT)
    image[4] = 0xC0  # ST(0) and ST(1) in R6 and R7
    image[3] = 6 << 3
    image[32:42] = struct.pack("<QH", 1 << 63, 0x3FFF)  # 1
    image[48:58] = struct.pack("<QH", 3 << 62, 0x4000)  # 3
    result = host.run(Case(b"\xd8\xf1", fxsave=bytes(image)))
    assert result.fxsave[32:42] == struct.pack("<QH", 0xAAAA_AAAA_AAAA_AAAB, 0x3FFD)


def test_rounding_mode_and_flags_of_mxcsr(host: HostCpu) -> None:
    image = bytearray(FXSAVE_DEFAULT)
    image[160:168], image[176:184] = struct.pack("<d", 1.0), struct.pack("<d", 3.0)
    struct.pack_into("<I", image, 24, 0x1F80 | 2 << 13)
    result = host.run(Case(bytes.fromhex("F2 0F 5E C1"), fxsave=bytes(image)))
    assert result.fxsave[160:168] == struct.pack("<Q", 0x3FD5_5555_5555_5556)
    assert struct.unpack_from("<I", result.fxsave, 24)[0] == 0x1F80 | 2 << 13 | 0x20


@pytest.mark.parametrize(
    ("code", "number", "vector", "behind"),
    [("0F 0B", signal.SIGILL, 6, 0), ("F7 F1", signal.SIGFPE, 0, 0), ("F4", signal.SIGSEGV, 13, 0), ("CC", signal.SIGTRAP, 3, 1)],
)
def test_faults_are_reported(host: HostCpu, code: str, number: int, vector: int, behind: int) -> None:
    for mode in (64, 32):
        result = run(host, code, mode, 7, 0, 9)
        assert result.fault and (result.fault.signal, result.fault.vector) == (number, vector)
        assert result.rip == CODE + behind and result.gprs[:3] == [7, 0, 9]


def test_page_fault_has_address_and_state(host: HostCpu) -> None:
    result = run(host, "F3 A4", 64, 0, 10, 0, 0, 0, 0, WINDOW, WINDOW + WINDOW_SIZE - 4)
    assert result.fault and result.fault.vector == 14 and result.fault.error & 7 == 6 and result.fault.address == WINDOW + WINDOW_SIZE
    assert result.gprs[1] == 6 and result.gprs[6] == WINDOW + 4 and result.rip == CODE


def test_branches_land_on_the_filling(host: HostCpu) -> None:
    assert run(host, "EB 20").rip == CODE + 0x22 and run(host, "EB 20").fault is None
    assert run(host, "74 20").rip == CODE + 2


def test_survives_an_endless_loop_and_goes_on(host: HostCpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.oracle.hostcpu.PATIENCE", 0.3)
    good = Case(b"\xff\xc0")
    results = host.run_many([good, Case(b"\xeb\xfe"), good])
    assert results[1].fault and results[1].fault.signal == signal.SIGKILL
    assert [r.gprs[0] for r in results] == [1, 0, 1]


def test_worker_that_dies_is_replaced(host: HostCpu) -> None:
    code = bytes.fromhex("B8 3C 00 00 00 31 FF 0F 05")  # exit(0)
    results = host.run_many([Case(code), Case(b"\xff\xc0")])
    assert results[0].fault and results[0].fault.vector == -1 and results[1].gprs[0] == 1


def test_speed(host: HostCpu) -> None:
    cases = [Case(b"\x48\x01\xc8", gprs=[i] * 16) for i in range(4000)]
    start = time.process_time()
    results = host.run_many(cases)
    assert [r.gprs[0] for r in results] == [2 * i for i in range(4000)]
    assert time.process_time() - start < 2


def test_features(host: HostCpu) -> None:
    assert {"fpu", "sse2", "syscall"} <= host.features()
