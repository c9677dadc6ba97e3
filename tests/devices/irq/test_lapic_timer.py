"""The local APIC's timer interrupt while native code has it: what the APIC knows afterwards."""

from __future__ import annotations

import pytest

from exuvia.devices.irq.apicbus import FIXED, INIT, NMI, START, Message
from exuvia.devices.irq.lapic_timer import SHORTEST
from exuvia.devices.irq.tick import Condition
from tests.devices.irq.test_apic import Machine
from tests.devices.irq.ticks import FakeTick

VECTOR, OTHER = 0x30, 0x41
TPR, EOI, TIMER, COUNT, CURRENT, DIVIDE = 0x80, 0xB0, 0x320, 0x380, 0x390, 0x3E0
ISR, IRR = 0x100, 0x200
MASKED, PERIODIC = 1 << 16, 1 << 17


class Board(Machine):
    """One local APIC whose processor has a tick."""

    def __init__(self) -> None:
        super().__init__(processors=1)
        self.apic, self.port, self.tick = self.apics[0], self.ports[0], FakeTick()
        self.apic.write(0x350, 4, MASKED)
        self.apic.lend_timer(self.tick)
        self.apic.write(DIVIDE, 4, 0xB)
        self.apic.write(TIMER, 4, VECTOR)

    def state(self) -> Condition | None:
        """How the interrupt is lent, if it is."""
        return self.tick.state

    def high(self) -> bool:
        """Is INTR?"""
        return self.port.level

    def due(self) -> int | None:
        """When the timer rings."""
        return self.tick.deadline

    def rang(self) -> bool:
        """Has the timer since the interrupt was delivered?"""
        return self.tick.line

    def of(self, bitmap: int, vector: int = VECTOR) -> bool:
        """A bit of ISR or IRR."""
        return bool(self.apic.read(bitmap + vector // 32 * 16, 4) >> vector % 32 & 1)

    def native(self, state: Condition, line: bool, deadline: int | None = None) -> None:
        """What native code leaves."""
        self.tick.becomes(state)
        self.tick.line, self.tick.deadline = line, deadline

    def send(self, mode: int, vector: int = OTHER) -> None:
        """A message of another processor's."""
        self.apic.receive(Message(0, False, mode, vector))


@pytest.fixture
def board() -> Board:
    return Board()


def test_what_it_is_lent_with(board: Board) -> None:
    assert board.state() == "idle"
    once = dict(number=VECTOR, mask=0, end=0xFEE000B0, arm=0xFEE00380)
    assert board.tick.loan == once | dict(period=0, scale=1)
    board.apic.write(DIVIDE, 4, 3)
    assert board.tick.loan == once | dict(period=0, scale=16)
    board.apic.write(COUNT, 4, SHORTEST // 16)
    board.apic.write(TIMER, 4, VECTOR | PERIODIC)
    assert board.tick.loan == once | dict(period=SHORTEST, scale=0) and board.due() == SHORTEST


@pytest.mark.parametrize("lvt", [VECTOR | MASKED, 0xF], ids=["masked", "no vector"])
def test_what_is_not_lent(board: Board, lvt: int) -> None:
    board.apic.write(TIMER, 4, lvt)
    assert board.state() is None
    board.apic.write(TIMER, 4, VECTOR)
    assert board.state() == "idle"


def test_it_is_not_lent_while_anything_else_goes_on(board: Board) -> None:
    board.apic.write(TPR, 4, VECTOR)
    assert board.state() is None
    board.apic.write(TPR, 4, VECTOR - 0x10)
    assert board.state() == "idle"
    board.send(FIXED)
    assert board.state() is None and board.high()
    assert board.apic.acknowledge() == OTHER and board.state() is None
    board.apic.write(EOI, 4, 0)
    assert board.state() == "idle" and not board.high()
    board.apic.write(COUNT, 4, SHORTEST - 1)
    board.apic.write(TIMER, 4, VECTOR | PERIODIC)
    assert board.state() is None, "too often"


@pytest.mark.parametrize(
    ("state", "line", "requested", "served"),
    [("idle", False, False, False), ("pending", True, True, False), ("active", False, False, True), ("active", True, True, True)],
)
def test_what_native_code_did_is_known(board: Board, state: Condition, line: bool, requested: bool, served: bool) -> None:
    board.native(state, line)
    assert (board.of(IRR), board.of(ISR)) == (requested, served)
    assert board.state() == state and board.rang() == line, "lent again as it was"
    board.send(FIXED)
    assert board.state() is None and board.high()
    assert (board.of(IRR), board.of(ISR)) == (requested, served)
    if served:
        board.apic.write(EOI, 4, 0)
    assert board.apic.acknowledge() == OTHER, "the higher one"
    board.apic.write(EOI, 4, 0)
    assert board.state() == ("pending" if requested else "idle")


def test_a_count_that_native_code_wrote(board: Board) -> None:
    board.apic.write(COUNT, 4, 1000)
    board.advance(400)
    board.tick.armed, board.tick.deadline = (50_000, 400), 50_400
    board.advance(100)
    assert board.apic.read(CURRENT, 4) == 49_900 and board.apic.read(COUNT, 4) == 50_000
    board.apic.write(TIMER, 4, VECTOR | MASKED)
    assert board.due() is None
    board.apic.write(TIMER, 4, VECTOR)
    assert board.due() == 50_400, "it counts while it is masked"
    board.native("pending", True)
    board.advance(50_000)
    board.apic.write(TIMER, 4, VECTOR | MASKED)
    board.apic.write(TIMER, 4, VECTOR)
    assert board.state() == "pending" and board.due() is None, "it rang once"


def test_messages_wait_for_a_processor_in_native_code(board: Board) -> None:
    board.tick.elsewhere = True
    for mode, vector in (FIXED, OTHER), (INIT, 0), (START, 8), (NMI, 0):
        board.send(mode, vector)
    assert board.tick.asked and not board.high() and board.port.events == ["nmi"]
    board.native("active", False)
    board.tick.leaves()
    assert board.port.events == ["nmi", "init", 8]
    assert not board.of(ISR) and not board.of(IRR, OTHER), "INIT forgets what came before"


def test_a_message_that_waited_is_requested(board: Board) -> None:
    board.tick.elsewhere = True
    board.send(FIXED)
    board.native("active", True)
    board.tick.leaves()
    assert board.high() and board.of(ISR) and board.of(IRR) and board.of(IRR, OTHER)


def test_a_wire_of_a_processor_in_native_code_waits_too(board: Board) -> None:
    board.apic.write(0x350, 4, 7 << 8)
    board.tick.elsewhere = True
    board.apic.input(0)(True)
    assert not board.high()
    board.tick.leaves()
    assert board.high() and board.state() is None


def test_a_machine_that_was_saved_goes_on(board: Board) -> None:
    board.native("active", True)
    saved = board.apic.save()
    assert board.state() == "active" and board.rang()
    board.apic.write(EOI, 4, 0)
    assert board.state() == "pending"
    board.apic.load(saved)
    assert board.state() == "active" and board.rang()


def test_a_reset_takes_it_back(board: Board) -> None:
    board.native("active", True)
    board.apic.reset()
    assert board.state() is None and not board.of(ISR) and not board.of(IRR)


def test_without_a_tick_the_clock_goes_on(board: Board) -> None:
    board.apic.write(COUNT, 4, 5000)
    board.apic.lend_timer(None)
    assert board.due() is None
    board.advance(4999)
    assert not board.high()
    board.advance(1)
    assert board.high() and board.apic.acknowledge() == VECTOR
