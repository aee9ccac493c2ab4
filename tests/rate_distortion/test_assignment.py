"""Entropy-constrained assignment against the dense definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pwfn import apot, compression
from pwfn.rate_distortion import assign
from pwfn.rate_distortion.alternation import alternate
from pwfn.rate_distortion.codebook import SAMPLE, _sample, search
from pwfn.rate_distortion.codes import Code, candidates, code_of
from pwfn.rate_distortion.envelope import Envelope


def costs(values: Tensor, lengths: Tensor, w: Tensor, t: Tensor) -> Tensor:
    """The N x C table of the definition."""
    return (values.double() - w.double()[:, None]).square() + t.double()[:, None] * lengths.double()


def network(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=generator) * 0.1, torch.randn(n, generator=generator).exp()


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 70), st.integers(0, 2**31), st.floats(-12, 6), st.booleans())
def test_the_envelope_finds_what_the_dense_argmin_finds(size: int, seed: int, log_t: float, equal: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, generator=generator, dtype=torch.float64).unique()
    lengths = torch.randint(1, 12, values.shape, generator=generator).double()
    lengths = torch.ones_like(lengths) if equal else lengths
    w = torch.randn(500, generator=generator) * 2
    t = torch.exp(torch.randn(500, generator=generator) + log_t)
    table = costs(values, lengths, w, t)
    found = Envelope(values, lengths).assign(w, t)
    assert found.dtype == torch.int32
    torch.testing.assert_close(table.gather(1, found.long()[:, None])[:, 0], table.amin(1), rtol=1e-12, atol=1e-12)
    clear = table.topk(min(2, len(values)), largest=False).values.diff().squeeze(1) > 1e-9 if len(values) > 1 else True
    assert ((found == table.argmin(1)) | ~torch.as_tensor(clear)).all()


def test_the_lower_value_wins_a_tie() -> None:
    # every number here is exact in binary
    values, lengths = torch.tensor([-1.0, 0.0, 0.5, 1.0]), torch.tensor([2.0, 1.0, 2.0, 2.0])
    w = torch.tensor([-0.5, 0.25, 0.75, -1.0, -0.75])
    t = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.5])
    table = costs(values, lengths, w, t)
    assert (table.topk(2, largest=False).values.diff() == 0).squeeze().tolist() == [True, True, True, True, True]
    assert Envelope(values, lengths).assign(w, t).tolist() == table.argmin(1).tolist() == [0, 1, 2, 0, 0]


def test_without_a_price_the_nearest_value_is_taken_and_with_a_high_one_the_cheapest() -> None:
    values, lengths = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([3.0, 1.0, 3.0])
    w = torch.tensor([-0.9, 0.4, 0.6])
    assert Envelope(values, lengths).assign(w, torch.zeros(3)).tolist() == [0, 1, 2]
    assert Envelope(values, lengths).assign(w, torch.full((3,), 10.0)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("values", "lengths"),
    [([], []), ([1.0, 0.0], [1.0, 1.0]), ([0.0, 0.0], [1.0, 1.0]), ([0.0], [torch.inf]), ([0.0, 1.0], [1.0])],
)
def test_an_envelope_needs_sorted_values_and_finite_lengths(values: list[float], lengths: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        Envelope(torch.tensor(values), torch.tensor(lengths))


@pytest.mark.parametrize("bits", [4.0, 3.0, 2.0, 1.2])
@pytest.mark.parametrize("n", [3_000, 60_000])
def test_the_entropy_meets_its_target(bits: float, n: int) -> None:
    w, sensitivity = network(n)
    found = assign(w, sensitivity, bits=bits)
    assert bits - 0.02 <= compression.entropy(found.values) <= bits
    assert len(found.centroids) == compression.unique(found.values) <= 64


def test_far_more_weights_than_the_sample() -> None:
    w, sensitivity = network(700_000)
    found = assign(w, sensitivity, bits=2.5)
    assert 2.48 <= compression.entropy(found.values) <= 2.5


def test_structure() -> None:
    w, sensitivity = network(5_000)
    found = assign(w, sensitivity, bits=3, max_unique=12, max_order=2)
    assert found.fixed.all() and found.values.dtype == torch.float32 and found.group.dtype == torch.int32
    assert torch.equal(found.centroids[found.group.long()], found.values)
    assert torch.equal(found.group.long().bincount(), found.counts) and (found.counts > 0).all()
    assert (found.centroids.diff() > 0).all() and len(found.centroids) <= 12
    assert torch.equal(found.orders, apot.order_of(found.centroids)) and found.orders.max() <= 2
    for k in range(len(found.centroids)):
        assert found.reaches[k] == (w - found.values)[found.group == k].abs().max()


def test_each_weight_has_its_cheapest_value_under_the_final_counts() -> None:
    w, sensitivity = network(2_000)
    values = candidates(w, max_order=2)
    start = Code(values, torch.ones_like(values).long(), torch.zeros_like(values))
    code = alternate(w, sensitivity, 1e-4, start, max_unique=64)
    index = Envelope(code.values, code.lengths).assign(w, 2e-4 / sensitivity)
    again = code_of(code.values, index.bincount(minlength=len(code.values)))
    assert abs(again.entropy - code.entropy) < 5e-3
    table = costs(code.values, code.lengths, w, 2e-4 / sensitivity)
    assert torch.equal(index.long(), table.argmin(1))


def test_bits_fall_and_distortion_rises_with_lambda() -> None:
    w, sensitivity = network(20_000)
    values = candidates(w, max_order=2)
    start = Code(values, torch.ones_like(values).long(), torch.zeros_like(values))
    entropies, distortions = [], []
    for scale in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        code = alternate(w, sensitivity, scale, start, max_unique=200)
        index = Envelope(code.values, code.lengths).assign(w, 2 * scale / sensitivity)
        entropies.append(code.entropy)
        distortions.append(float((sensitivity * (code.values[index.long()] - w).square()).mean()))
    assert all(a > b for a, b in itertools.pairwise(entropies))
    assert all(a < b for a, b in itertools.pairwise(distortions))


def test_more_sensitive_weights_move_less() -> None:
    w, _ = network(20_000)
    sensitivity = torch.ones_like(w)
    sensitivity[:10_000] = 100
    away = (assign(w, sensitivity, bits=2.5).values - w).square()
    assert away[:10_000].mean() < 0.5 * away[10_000:].mean()


def test_it_beats_the_nearest_of_evenly_spaced_values_at_the_same_bits() -> None:
    w, _ = network(30_000)
    step = 2.0**-4
    grid = (w / step).round() * step
    found = assign(w, torch.ones_like(w), bits=compression.entropy(grid))
    assert (found.values - w).square().mean() < 1.02 * (grid - w).square().mean()


def test_the_floor_drops_rare_values() -> None:
    w, sensitivity = network(20_000)
    assert assign(w, sensitivity, bits=3).counts.min() < 0.01 * len(w)
    found = assign(w, sensitivity, bits=3, floor=0.01)
    assert found.counts.min() >= 0.01 * len(w)
    assert 2.98 <= compression.entropy(found.values) <= 3


def test_few_and_equal_weights() -> None:
    assert len(assign(torch.zeros(0), torch.zeros(0)).values) == 0
    assert assign(torch.zeros(5), torch.ones(5)).values.tolist() == [0.0] * 5
    alone = assign(torch.tensor([0.3]), torch.ones(1))
    assert compression.entropy(alone.values) == 0 and abs(float(alone.values) - 0.3) < 0.02
    equal = assign(torch.full((9,), 0.25), torch.ones(9), bits=2)
    assert equal.values.tolist() == [0.25] * 9


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 400), st.integers(0, 2**31), st.floats(0.5, 6), st.integers(1, 40))
def test_invariants(n: int, seed: int, bits: float, max_unique: int) -> None:
    w, sensitivity = network(n, seed)
    found = assign(w, sensitivity, bits=bits, max_unique=max_unique)
    assert compression.entropy(found.values) <= bits + 0.02
    assert compression.unique(found.values) <= max_unique
    assert set(found.centroids.double().tolist()) <= set(candidates(w, max_order=2).tolist())
    mirrored = assign(w * 2, sensitivity, bits=bits, max_unique=max_unique)  # a power of two changes nothing
    assert torch.equal(mirrored.values, 2 * found.values)


def test_candidates_reach_past_the_largest_weight() -> None:
    values = candidates(torch.tensor([0.3, -0.7]), max_order=1, min_exponent=-2)
    assert values.tolist() == [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]


def test_search_finds_a_falling_function() -> None:
    scale = search(lambda x: 5 - torch.log2(torch.tensor(x)).item(), 3.0, 1e-3)
    assert 2.98 <= 5 - torch.log2(torch.tensor(scale)).item() <= 3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"w": torch.zeros(2, 2)}, "w must"),
        ({"w": torch.zeros(3).double()}, "w must"),
        ({"w": torch.tensor([0.0, 1.0, torch.nan])}, "w must"),
        ({"sensitivity": torch.ones(2)}, "sensitivity"),
        ({"sensitivity": torch.tensor([1.0, 0.0, 1.0])}, "sensitivity"),
        ({"sensitivity": torch.tensor([1.0, torch.inf, 1.0])}, "sensitivity"),
        ({"bits": 0.0}, "bits"),
        ({"max_unique": 0}, "max_unique"),
        ({"floor": 1.0}, "floor"),
    ],
)
def test_errors_name_the_argument(change: dict[str, object], word: str) -> None:
    arguments = {"w": torch.zeros(3), "sensitivity": torch.ones(3), **change}
    with pytest.raises(ValueError, match=word):
        assign(**arguments)  # type: ignore[arg-type]


def test_what_few_sensitive_weights_need_is_not_dropped() -> None:
    """Four weights a million times as sensitive as the rest keep their values, though nobody else has them."""
    w = torch.cat((torch.linspace(-0.5, 0.5, 20_000), torch.tensor([1.125, 1.375, -1.125, -1.375])))
    sensitivity = torch.ones_like(w)
    sensitivity[-4:] = 1e6
    found = assign(w, sensitivity, bits=3, max_unique=16, max_order=2)
    assert float((found.values[-4:] - w[-4:]).abs().max()) <= 0.125  # 1.375 is no sum of two powers
    assert len(found.centroids) <= 16


def test_a_sample_holds_the_sensitive_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(10 * SAMPLE, generator=generator)
    sensitivity = torch.ones_like(w)
    sensitivity[12_345:12_445] = 1e7
    few, weight, mass = _sample(w, sensitivity)
    assert len(few) <= SAMPLE + 1
    assert int((weight == 1e7).sum()) == 100 and bool((mass[weight == 1e7] == 1).all())
    assert abs(float(mass.double().sum()) / len(w) - 1) < 0.01  # the sample stands for all
