"""The network in training: loss, metrics, parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from pwfn.distillation import Distillation
from pwfn.gaussian import gaussian_weights

__all__ = ["Classifier", "parameter_groups"]

Penalty = Callable[[nn.Module, Tensor], Tensor]

CHECK_EVERY = 50
"""Steps between two looks at the loss on a device that computes ahead."""


class Classifier(L.LightningModule):
    """Cross-entropy training of an image classifier.

    Logs ``train/loss`` and ``train/acc1`` per step, ``val/loss`` and ``val/acc1`` (percent) per validation. The
    progress bar shows the loss of the step at which it was last looked at, see :data:`CHECK_EVERY`.

    Args:
        model: the network.
        optimizer: makes the optimizer from parameter groups.
        num_classes: width of the logits.
        criterion: training loss of logits and targets; cross-entropy if None.
        penalty: added to the training loss, ``penalty(model, loss) -> scalar`` (WFN's regulariser).
        distillation: mixes the criterion with the divergence from the network before sharing, if given.
        mixup: changes a training batch, ``mixup(images, targets)``, such as ``timm.data.Mixup``.
        scheduler: makes a learning-rate scheduler, stepped every batch, from the optimizer and the number of
            steps; constant learning rate if None.

    Raises:
        FloatingPointError: in training, when the loss is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        num_classes: int,
        *,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
        penalty: Penalty | None = None,
        distillation: Distillation | None = None,
        mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        scheduler: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.penalty = penalty
        self.distillation = distillation
        self.mixup = mixup
        self.scheduler = scheduler
        self.train_acc = MulticlassAccuracy(num_classes, average="micro")
        self.val_acc = MulticlassAccuracy(num_classes, average="micro")
        self._last_loss: Tensor | None = None
        self._shown: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        logits = self.model(images)
        loss = self.criterion(logits, targets)
        if self.distillation is not None:
            loss = self.distillation(loss, logits, images)
        hard = targets if targets.ndim == 1 else targets.argmax(1)
        self.train_acc(logits, hard)
        self.log("train/loss", loss)
        self.log("train/acc1", self.train_acc, on_step=True, on_epoch=False)
        self._last_loss = loss.detach()
        # reading the loss waits for the device: seldom there, always where it costs nothing
        if self._shown is None or loss.device.type == "cpu" or self.global_step % CHECK_EVERY == 0:
            self.require_finite_loss()
            self._shown = self._last_loss.cpu()
        self.log("loss", self._shown, prog_bar=True, logger=False)  # Lightning reads what it shows at every step
        return loss if self.penalty is None else loss + self.penalty(self.model, loss.detach())

    def require_finite_loss(self) -> None:
        """Raise if the last training loss was not finite."""
        if self._last_loss is not None and not torch.isfinite(self._last_loss):
            raise FloatingPointError(
                f"the training loss is {float(self._last_loss)} at epoch {self.current_epoch}, "
                f"step {self.global_step}: lower optimizer.lr, or resume from the last checkpoint"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.require_finite_loss()  # a checkpoint is always one to resume from

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, targets = batch
        logits = self.model(images)
        self.val_acc(logits, targets)
        self.log("val/loss", nn.functional.cross_entropy(logits, targets), sync_dist=True)
        self.log("val/acc1", self.val_acc, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(parameter_groups(self))
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def parameter_groups(model: nn.Module) -> list[dict[str, Iterable[nn.Parameter]]]:
    """Parameter groups for an optimizer: all as they come, but no weight decay on sigma unless its weight says so."""
    sigmas = [w.sigma for _, _, w in gaussian_weights(model) if w.sigma is not None and not w.decay_sigma]
    known = set(sigmas)
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p not in known]}]
    if sigmas:
        groups.append({"params": sigmas, "weight_decay": 0.0})
    return groups
