from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwfn.rounds import PAPER, Rounds


def test_the_paper() -> None:
    rounds = Rounds()
    assert len(rounds) == 10 and rounds.epochs == 28 and rounds.fractions == PAPER
    assert [e for e in range(30) if rounds.due(e)] == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]
    assert list(rounds.due(1)) == [0] and list(rounds.due(28)) == [9]
    assert [rounds.batches(e) for e in (0, 1, 27)] == [0.05, 1.0, 1.0]
    assert [rounds.coming(e) for e in (0, 1, 3, 4, 27)] == [0, 1, 1, 2, 9]


def test_all_batches_are_no_single_batch() -> None:
    """Lightning takes the whole number 1 for one batch, 1.0 for all of them."""
    rounds = Rounds(first_fraction=1, rest_fraction=1)
    assert all(isinstance(rounds.batches(epoch), float) for epoch in (0, 1))


def test_progress_between_rounds() -> None:
    rounds = Rounds()
    assert rounds.progress(0, 0.5) == 0.5
    assert rounds.progress(1, 0.0) == 0
    assert rounds.progress(2, 0.5) == pytest.approx(0.5)
    assert rounds.progress(27, 0.5) == pytest.approx(2.5 / 3)


def test_without_training() -> None:
    after_one = Rounds(rest_epochs=0)
    assert after_one.epochs == 1 and list(after_one.due(1)) == list(range(10)) and not after_one.due(0)
    never = Rounds(first_epochs=0, rest_epochs=0)
    assert never.epochs == 0 and list(never.due(0)) == list(range(10))


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 6))
def test_every_round_is_due_once(first: int, rest: int, count: int) -> None:
    rounds = Rounds([(i + 1) / count for i in range(count)], first_epochs=first, rest_epochs=rest)
    due = [t for epoch in range(rounds.epochs + 1) for t in rounds.due(epoch)]
    assert due == list(range(count))
    assert not rounds.due(rounds.epochs + 1)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"fractions": [0.5, 0.4, 1.0]}, "fractions"),
        ({"fractions": [0.5, 0.9]}, "fractions"),
        ({"fractions": []}, "fractions"),
        ({"fractions": [0.0, 1.0]}, "fractions"),
        ({"fractions": ["a", 1.0]}, "fractions"),
        ({"first_epochs": -1}, "first_epochs"),
        ({"rest_epochs": 0.25}, "rest_epochs"),
        ({"rest_epochs": "many"}, "rest_epochs"),
        ({"first_fraction": 0.0}, "first_fraction"),
        ({"rest_fraction": 1.5}, "rest_fraction"),
        ({"rest_fraction": None}, "rest_fraction"),
    ],
)
def test_mistakes_name_the_setting(change: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Rounds(**change)
