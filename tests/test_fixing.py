from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pwfn import clustering, method, prior, scope, sigma_join, wfn
from pwfn.assignment import Assignment, merge
from pwfn.callback import WeightFixing
from pwfn.classifier import Classifier
from pwfn.fixing import fix
from pwfn.gaussian import flat_weights, gaussian_weights, to_gaussian
from pwfn.rounds import Round, Rounds


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.parametrize("number", range(10))
def test_golden_round(shared: Path, number: int) -> None:
    """A whole round against the released search: values, who is fixed, joined sigmas."""
    case = json.loads((shared / "golden" / "index.json").read_text())["pwfn"][number]
    data = {k: torch.from_numpy(v) for k, v in np.load(shared / "golden" / f"{case['name']}.npz").items() if v.ndim}
    assign = partial(
        clustering.assign,
        delta=case["delta"],
        min_exponent=-case["b"],
        growth=case["inc"],
        zero_fix=case["zero_fix"],
    )
    model = nn.Linear(len(data["mu"]), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(data["mu"])
    to_gaussian(model, prior=lambda mu: data["sigma"].view_as(mu))
    fix(model, case["p"], assign, getattr(sigma_join, case["sigma_join"]))
    after = flat_weights(model)
    assert torch.equal(after.mu, data["mu_out"])
    assert torch.equal(after.fixed, data["fixed"])
    expected = data["sigma_out"].clamp(min=prior.SIGMA_MIN)  # a group of one has deviation 0
    torch.testing.assert_close(after.sigma, expected, rtol=1e-6, atol=0)


def test_reclustering_frees_and_moves_weights() -> None:
    """`all` makes fixed weights candidates again, `free` leaves them alone."""

    def to(value: float, which: slice) -> Any:
        def assign(mu: Tensor, sigma: Tensor, fraction: float, fixed_before: int = 0) -> Assignment:
            assert fixed_before in (0, 2)
            fixed = torch.zeros(len(mu), dtype=torch.bool)
            fixed[which] = True
            group = torch.where(fixed, 0, -1).to(torch.int32)
            one = torch.ones(1, dtype=torch.int64)
            values = torch.where(fixed, value, mu)
            return Assignment(values, fixed, group, torch.tensor([value]), fixed.sum()[None], one, torch.ones(1))

        return assign

    for recluster in ("all", "free"):
        model = to_gaussian(nn.Linear(4, 1, bias=False))
        fix(model, 0.5, to(0.25, slice(0, 2)))
        start = flat_weights(model).mu[2:]
        fix(model, 0.75, to(0.5, slice(0, 1)), recluster=recluster)
        after = flat_weights(model)
        if recluster == "all":
            assert after.mu.tolist()[:2] == [0.5, 0.25] and after.fixed.tolist() == [True, False, False, False]
        else:
            assert after.mu.tolist()[:3] == [0.25, 0.25, 0.5]
            assert after.fixed.tolist() == [True, True, True, False]
        assert torch.equal(after.mu[3:], start[1:])


@pytest.mark.parametrize("fraction", [0.3, 0.55, 0.7, 1.0])
def test_free_reclustering_reaches_the_fraction_exactly(fraction: float) -> None:
    model = to_gaussian(network())
    fix(model, 0.2, clustering.assign)
    before = flat_weights(model)
    fix(model, fraction, clustering.assign, recluster="free")
    after = flat_weights(model)
    assert int(after.fixed.sum()) == int(np.ceil(round(fraction * len(after.mu), 9)))
    assert torch.equal(after.mu[before.fixed], before.mu[before.fixed])


def test_free_reclustering_rounds_as_the_method_does() -> None:
    """WFN fixes ``floor(fraction * N)`` of all weights, also where it is shown the free ones only."""
    model = to_gaussian(nn.Linear(3, 1), prior=None)  # four weights

    def one(mu: Tensor, sigma: Tensor, fraction: float, fixed_before: int = 0) -> Assignment:
        return wfn.assign(mu, fraction, allowance=0.5, fixed_before=fixed_before)

    assert int(fix(model, 0.3, one).fixed.sum()) == 1
    fix(model, 0.75, one, recluster="free")
    assert int(flat_weights(model).fixed.sum()) == 3


class Data(L.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(96, 6, generator=generator)
        self.data = TensorDataset(x, x[:, :3].argmax(1))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, 8)


def fit(callbacks: list[L.Callback], epochs: int, **model: Any) -> tuple[nn.Module, L.Trainer]:
    torch.manual_seed(0)
    net = to_gaussian(network(), **model)
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        accelerator="cpu",
    )
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
    trainer.fit(Classifier(net, optimizer, 3), Data())
    return net, trainer


class Watch(L.Callback):
    """Sees after every step that fixed weights are their centroids, and counts steps per epoch."""

    def __init__(self, fixing: WeightFixing) -> None:
        self.fixing, self.known, self.steps = fixing, {}, {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.steps[trainer.current_epoch] = self.steps.get(trainer.current_epoch, 0) + 1
        flat = flat_weights(pl_module)
        done = len(self.fixing.rows)
        if done not in self.known:
            self.known[done] = flat
        assert torch.equal(flat.mu[flat.fixed], self.known[done].mu[flat.fixed])
        assert torch.equal(flat.sigma[flat.fixed], self.known[done].sigma[flat.fixed])


def test_rounds_come_on_schedule_and_fixed_weights_hold() -> None:
    rounds = Rounds([0.25, 0.5, 1.0], first_epochs=1, first_fraction=0.25, rest_epochs=2)
    fixing = WeightFixing(rounds, evaluate=lambda model: {"acc1": 50.0, "acc5": 100.0, "loss": 1.0})
    watch = Watch(fixing)
    net, trainer = fit([fixing, watch], rounds.epochs)
    assert watch.steps == {0: 3, 1: 12, 2: 12, 3: 12, 4: 12}
    assert trainer.global_step == 3 + 4 * 12
    total = sum(mu.numel() for _, mu, _ in gaussian_weights(net))
    assert [row["fixed"] for row in fixing.rows] == [int(np.ceil(f * total)) for f in (0.25, 0.5, 1)]
    assert fixing.rows[-1]["unique"] == fixing.rows[-1]["unique_fixed"] < 60
    needed = {"round", "fraction", "fixed", "unique", "unique_nonzero", "entropy", "entropy_nonzero", "zeros"}
    needed |= {"acc1_before", "acc1_after", "acc5_after", "loss_after", "delta_last", "order_last"}
    needed |= {"sigma_mean", "train_seconds", "cluster_seconds"}
    assert needed <= set(fixing.rows[0])
    by_round = [sum(c["count"] for c in fixing.clusters if c["round"] == t) for t in range(3)]
    assert by_round == [row["fixed"] for row in fixing.rows]


def test_the_progress_bar_tells_round_share_and_loss() -> None:
    shown: list[dict[str, float]] = []

    class Bar(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            shown.append(dict(trainer.progress_bar_metrics))

    fit([WeightFixing(Rounds([0.5, 1.0], first_epochs=1, first_fraction=1.0, rest_epochs=1)), Bar()], 2)
    assert all(set(bar) == {"loss", "round", "fixed"} for bar in shown)
    assert [(bar["round"], bar["fixed"]) for bar in shown] == [(0, 0)] * 12 + [(1, 0.5)] * 12
    assert len({bar["loss"] for bar in shown}) == 24  # on a CPU the loss of each step


def test_all_rounds_at_once_where_nothing_trains_between() -> None:
    fixing = WeightFixing(Rounds([0.5, 0.75, 1.0], first_epochs=1, first_fraction=1.0, rest_epochs=0))
    net, _ = fit([fixing], 1)
    assert [row["round"] for row in fixing.rows] == [0, 1, 2]
    assert bool(flat_weights(net).fixed.all())


def test_a_round_before_training() -> None:
    fixing = WeightFixing(Rounds([0.5, 1.0], first_epochs=0, rest_epochs=1))
    fit([fixing], 1)
    assert [row["round"] for row in fixing.rows] == [0, 1]


def test_sigma_goes_on_learning_only_with_allow_retraining() -> None:
    rounds = Rounds([0.6, 1.0], first_epochs=1, first_fraction=1.0, rest_epochs=2)
    for join in (sigma_join.allow_retraining, sigma_join.keep_the_same_divide_by_2):
        seen: list[Tensor] = []

        class Record(L.Callback):
            def on_train_epoch_end(
                self, trainer: L.Trainer, pl_module: L.LightningModule, seen: list[Tensor] = seen
            ) -> None:
                flat = flat_weights(pl_module)
                seen.append(torch.where(flat.fixed, flat.sigma, 0))

        fit([WeightFixing(rounds, join=join), Record()], rounds.epochs, prior=prior.constant)
        assert torch.equal(seen[0], seen[1]) == (join is sigma_join.keep_the_same_divide_by_2)


@pytest.mark.parametrize("recluster", ["all", "free"])
def test_each_tensor_by_itself(recluster: Any) -> None:
    """The assignment of all is what each tensor's own weights give, the second one's groups after the first's."""
    layers = [nn.Linear(6, 16, bias=False), nn.Linear(16, 3, bias=False)]
    model, alone = (to_gaussian(nn.Sequential(*copy.deepcopy(layers))) for _ in range(2))
    for fraction in (0.4, 1.0):
        found = fix(model, fraction, clustering.assign, recluster=recluster, per_tensor=True)
        start = groups = 0
        for layer in alone:
            own = fix(layer, fraction, clustering.assign, recluster=recluster)
            place = slice(start, start := start + len(own.values))
            assert torch.equal(found.values[place], own.values) and torch.equal(found.fixed[place], own.fixed)
            expected = torch.where(own.group < 0, -1, own.group + groups)
            assert torch.equal(found.group[place], expected)
            mine = slice(groups, groups := groups + len(own.centroids))
            for field in ("centroids", "counts", "orders", "reaches"):
                assert torch.equal(getattr(found, field)[mine], getattr(own, field))
        assert (start, groups) == (len(found.values), len(found.centroids))
        torch.testing.assert_close(flat_weights(model).sigma, flat_weights(alone).sigma)


def test_kmeans_per_tensor_with_fewer_weights_than_clusters() -> None:
    """48 weights in two tensors: 9 values for one, all of its own 3 for the other; one value is in both."""
    model = nn.Sequential(nn.Linear(15, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_((torch.arange(45) // 5 * 0.25).view(3, 15))
        model[1].weight.copy_(torch.tensor([[-1.0, 2.0, 7.0]]))
    to_gaussian(model, prior=None)

    def nine(mu: Tensor, sigma: Tensor, fraction: float) -> Assignment:
        return method.kmeans(mu, sigma, Round(fraction), clusters=9)

    found = fix(model, 1.0, nine, per_tensor=True)
    assert found.centroids.tolist() == [0.25 * i for i in range(9)] + [-1.0, 2.0, 7.0]
    assert found.counts.tolist() == [5] * 9 + [1] * 3
    assert found.group.tolist() == [i // 5 for i in range(45)] + [9, 10, 11]
    assert bool(found.fixed.all()) and flat_weights(model).mu.unique().tolist() == [-1, *torch.arange(9).div(4), 7]


def test_empty_tensors_merge() -> None:
    empty, full = (method.kmeans(x, x, Round(), clusters=2) for x in (torch.empty(0), torch.ones(3)))
    found = merge([empty, full, empty])
    assert found.group.tolist() == [0, 0, 0] and found.centroids.tolist() == [1.0]


class Loaded(L.LightningDataModule):
    """Gives so many batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.randn(8 * self.batches, 6), torch.zeros(8 * self.batches).long()), 8)


@pytest.mark.parametrize(
    ("rounds", "trainer", "converted", "said"),
    [
        (Rounds([0.5, 1.0], first_fraction=1.0, rest_epochs=1), {"max_epochs": 1}, True, "give the Trainer 2"),
        (Rounds([0.5, 1.0], rest_epochs=1), {"max_epochs": 2}, True, "reload_dataloaders_every_n_epochs=1"),
        (Rounds([1.0], first_fraction=1.0), {"max_epochs": 1}, False, "call pwfn.to_gaussian"),
        (Rounds([1.0], first_fraction=0.05), {"max_epochs": 1}, True, "0.05 of the training batches is less than one"),
    ],
    ids=["too few epochs", "no reload", "no weights", "short loader"],
)
def test_what_does_not_fit_the_rounds_is_refused(
    rounds: Rounds, trainer: dict[str, Any], converted: bool, said: str
) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    net = to_gaussian(network()) if converted else network()
    with pytest.raises(ValueError, match=said):
        L.Trainer(**quiet, **trainer, callbacks=[WeightFixing(rounds)]).fit(
            Classifier(net, partial(torch.optim.SGD, lr=0.05), 3), Loaded(8)
        )


def test_epochs_of_one_length_need_no_reload() -> None:
    rounds = Rounds([0.5, 1.0], first_fraction=1.0, rest_epochs=1)
    fixing = WeightFixing(rounds)
    trainer = L.Trainer(
        max_epochs=2,
        callbacks=[fixing],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    trainer.fit(Classifier(to_gaussian(network()), partial(torch.optim.SGD, lr=0.05), 3), Loaded(2))
    assert [row["fraction"] for row in fixing.rows] == [0.5, 1.0]


def test_frozen_parameters_are_told_and_may_be_left_out() -> None:
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    with pytest.warns(UserWarning, match=r"2 of 4 parameters in scope are frozen.*pwfn\.scope\.trainable"):
        to_gaussian(copy.deepcopy(model))
    to_gaussian(model, scope=scope.trainable(scope.conv_linear))
    fix(model, 1.0, clustering.assign)
    assert torch.equal(model[0].weight, before) and [name for name, _, _ in gaussian_weights(model)] == [
        *("2.weight", "2.bias")
    ]
