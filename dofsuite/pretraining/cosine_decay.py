"""The learning rate of the small networks' training."""

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch.optim import Optimizer


def with_cosine_decay(optimizer: Optimizer, max_steps: int) -> OptimizerLRSchedulerConfig:
    """Return the optimizer with cosine decay to 0 at step `max_steps`, the run's end (*ours*)."""
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, max_steps))
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
    }
