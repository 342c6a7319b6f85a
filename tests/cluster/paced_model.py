"""A tiny model that takes its time, so that a job can be disturbed while it trains."""

import time

from torch import Tensor

from tests.tiny_runs import TinyModel


class PacedModel(TinyModel):
    """Steps of a tenth of a second."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        time.sleep(0.1)
        return super().training_step(batch, batch_idx)
