"""Record: what `dataclasses` would make of the same class is the oracle."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from exuvia.support.record import Record


class Mine(Record):
    number: int
    text: str = "none"
    items: list[int] = []

    def double(self) -> int:
        return self.number * 2


@dataclass
class Theirs:
    number: int
    text: str = "none"
    items: list[int] = field(default_factory=list)


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, "x"), {}),
    ((1,), {"text": "y"}),
    ((), {"number": 2, "items": [3]}),
    ((1, "x", [2]), {}),
    ((), {}),
    ((1, "x", [], 4), {}),
    ((1,), {"number": 2}),
    ((1,), {"other": 2}),
    ((), {"text": "x"}),
]


@pytest.mark.parametrize(("given", "named"), CALLS)
def test_it_takes_what_a_dataclass_takes(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    try:
        wanted = vars(Theirs(*given, **named))
    except TypeError:
        with pytest.raises(TypeError, match="number, text, items"):
            Mine(*given, **named)
    else:
        assert vars(Mine(*given, **named)) == wanted


def test_lists_are_not_shared() -> None:
    one, other = Mine(1), Mine(1)
    assert one == other
    one.items.append(5)
    assert (one.items, other.items, Mine.items) == ([5], [], [])
    assert one != other


def test_copies_and_text() -> None:
    one = Mine(4, "x")
    assert one.replaced(number=5) == Mine(5, "x")
    assert one.double() == 8
    assert repr(one) == "Mine(number=4, text='x', items=[])"
    assert one != (4, "x", [])
