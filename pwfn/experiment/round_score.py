"""The accuracy of a converted network around a round, and of an ensemble of its draws."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pwfn.experiment.evaluation import Loader, accuracy, ensemble

__all__ = ["round_score"]


def round_score(
    model: nn.Module, loader: Callable[[], Loader], num_classes: int, *, draws: int, seed: int
) -> dict[str, float]:
    """Measure what ``rounds.csv`` says of a converted network: :func:`accuracy`, and with ``draws`` its ensemble.

    Args:
        model: the network, left in the mode in which it came.
        loader: gives batches of validation images.
        num_classes: width of the logits.
        draws: size of the ensemble; 0 for none.
        seed: of its draws.

    Returns:
        The figures of :func:`accuracy`, ``ensemble_acc1`` (percent) and ``ensemble_nll`` (nats).
    """
    found, training = accuracy(model, loader(), num_classes), model.training
    if draws:
        (entry,) = ensemble(model, None, loader(), num_classes, [draws], seed=seed)
        model.train(training)
        found |= {f"ensemble_{name}": entry[name] for name in ("acc1", "nll")}
    return found
