"""An exponential moving average of the trained weights, by Lightning's callback."""

from typing import Any, cast

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from dofsuite.errors import UserError


class EmaWeights(EMAWeightAveraging):
    """Validate with, and export, an average of the trained weights; in a file, a `callbacks` entry.

    Lightning's own averages the whole module: it would copy a frozen base, write it into each
    checkpoint, put the average where a checkpoint has the weights, and find names missing when it
    resumes. Here the average is of what is trained, lies in the callback's part of the checkpoint,
    and the weights stay where they are, so that a run may go on without it.
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
    ) -> None:
        """Choose how much the average remembers.

        Args:
            decay: Share of the old average that stays at an update (*ours*: 0.999).
            update_every_n_steps: Optimizer steps between two updates.
            update_starting_at_step: First step (from 0) after which it is updated; null: the first.
        """
        if not 0 < decay < 1:
            raise ValueError(f"decay: between 0 and 1 is expected, not {decay}")
        super().__init__(
            use_buffers=False,
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
        )
        self._trained: dict[str, nn.Parameter] = {}
        self._loaded: dict[str, Any] = {}
        # Whether the module holds the average now, and the average the module's weights.
        self._is_swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: the weights are made after this."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start at the weights as they are, or at a checkpoint's average.

        Raises:
            UserError: The weights are sharded.
        """
        self._trained = {k: w for k, w in pl_module.named_parameters() if w.requires_grad}
        if any(isinstance(weight, DTensor) for weight in self._trained.values()):
            raise UserError(
                "trainer.callbacks: EmaWeights cannot average sharded weights; set "
                "model.training.ema_decay instead."
            )
        average = AveragedModel(self._weights(), use_buffers=False, **self._kwargs)
        self._average_model = average
        if self._loaded:
            average.n_averaged.copy_(self._loaded["n_averaged"])
            for name, weight in zip(self._trained, average.module.parameters(), strict=True):
                weight.data.copy_(self._loaded["average"][name])
            self._loaded = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        super().on_train_batch_end(trainer, self._weights(), *args, **kwargs)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, self._weights())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing yet: the last checkpoint may still be saved, with the weights."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module the average, which is exported."""
        self._copy_average_to_current(self._weights())

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(self._weights())
        self._is_swapped = not self._is_swapped

    # --- checkpoints ---

    def state_dict(self) -> dict[str, Any]:
        """Return the average by the weights' names."""
        if self._average_model is None:
            return super().state_dict()
        average = dict(zip(self._trained, self._average_model.module.parameters(), strict=True))
        values = self._trained if self._is_swapped else average
        return super().state_dict() | {
            "average": {name: weight.detach().clone() for name, weight in values.items()},
            "n_averaged": self._average_model.n_averaged.clone(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._loaded = state_dict if "average" in state_dict else {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the weights themselves in the checkpoint, also in the middle of a validation."""
        if self._is_swapped and self._average_model is not None:
            weights: list[Tensor] = list(self._average_model.module.parameters())
            checkpoint["state_dict"] |= dict(zip(self._trained, weights, strict=True))

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Nothing: `load_state_dict` has it all."""

    # What Lightning's methods take as a module: they ask for its parameters and buffers alone.
    def _weights(self) -> LightningModule:
        return cast(LightningModule, nn.ParameterList(self._trained.values()))
