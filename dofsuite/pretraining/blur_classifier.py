"""Training of the blur classifier, from labels that the optics make."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from dofsuite import diffusion
from dofsuite.backbones.perception.blur import (
    KINDS,
    VERDICT_OF,
    VERDICTS,
    BlurModel,
    verdict_probabilities,
)
from dofsuite.backbones.small.blur import SmallBlur, save_blur
from dofsuite.data import Batch
from dofsuite.data.batch import check_has_depth
from dofsuite.pretraining.blurred_kinds import BlurSizes, draw_cameras, photograph
from dofsuite.pretraining.cosine_decay import with_cosine_decay

# Verdict of each kind, by index.
VERDICT_INDEX = torch.tensor([VERDICTS.index(VERDICT_OF[kind]) for kind in KINDS])


class BlurClassifier(pl.LightningModule):
    """Trains a ResNeXt-FPN on rendered blur; validates every image with every kind of blur."""

    model: BlurModel | None

    def __init__(
        self,
        backbone: SmallBlur = SmallBlur(weights=None),  # noqa: B008  (a light descriptor)
        sizes: BlurSizes = BlurSizes(),  # noqa: B008
        noise_std: float = 0.03,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.05),
        seed: int = 0,
    ) -> None:
        """Store the configuration; the network is built in `configure_model`.

        Args:
            backbone: Which network.
            sizes: Of the blur.
            noise_std: Largest standard deviation of the sensor noise that is added to a photograph,
                in display values; drawn uniformly from 0 (*ours*).
            optimizer: Its learning rate is the peak of the cosine decay.
            seed: Of all draws.
        """
        super().__init__()
        if noise_std < 0:
            raise ValueError(f"noise_std: must be 0 or above, got {noise_std}")
        self.backbone, self.sizes = backbone, sizes
        self.noise_std, self.seed = noise_std, seed
        self.optimizer = optimizer
        self.model = None
        self.accuracy = MulticlassAccuracy(len(VERDICTS), average="macro")
        self.recall_of_kind = MulticlassAccuracy(len(KINDS), average="none")

    def configure_model(self) -> None:
        if self.model is None:
            self.model = self.backbone.load().requires_grad_(True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Minimize the cross-entropy of the kind, drawn so that the three verdicts are balanced."""
        check_has_depth(batch)
        index = batch.index.tolist()
        u = diffusion.draw_uniform(self.seed, index, "which blur", 2).to(self.device)
        kind = balanced_kinds(u[:, 0])
        image = self.blurred(batch, kind, index)
        noise = diffusion.draw_noise(image.shape[1:], self.seed, index, "sensor").to(self.device)
        image = image + self.noise_std * u[:, 1, None, None, None] * noise
        loss = cross_entropy(self.network(image), kind)
        self.log("train/loss", loss, batch_size=len(kind))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Photograph every image with every kind of blur, and compare the verdicts."""
        check_has_depth(batch)
        for number in range(len(KINDS)):
            kind = torch.full((len(batch.key),), number, device=self.device)
            index = [len(KINDS) * i + number for i in batch.index.tolist()]
            logits = self.network(self.blurred(batch, kind, index))
            self.accuracy.update(
                verdict_probabilities(logits.softmax(1)), VERDICT_INDEX.to(self.device)[kind]
            )
            self.recall_of_kind.update(logits, kind)

    def on_validation_epoch_end(self) -> None:
        """Log the balanced accuracy of the verdicts, and the recall of each kind."""
        self.log("val/balanced_accuracy", self.accuracy.compute())
        recalls = dict(zip(KINDS, self.recall_of_kind.compute(), strict=True))
        self.log_dict({f"val/recall_{kind}": recall for kind, recall in recalls.items()})
        self.accuracy.reset()
        self.recall_of_kind.reset()

    def network(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Return the logits of the kinds of images at the size they have."""
        if self.model is None:
            raise RuntimeError("configure_model comes first")
        return self.model.network(image)

    @torch.no_grad()
    def blurred(
        self, batch: Batch, kind: Int[Tensor, "b"], index: Sequence[int]
    ) -> Float[Tensor, "b 3 h w"]:
        """Photograph each image with its kind of blur."""
        camera = draw_cameras(kind, batch.disparity, self.sizes, self.seed, index)
        return photograph(batch.image_srgb, batch.disparity, camera, self.sizes.gamma)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return with_cosine_decay(self.optimizer(self.parameters()), self.trainer.max_steps)

    def export(self, folder: Path) -> None:
        """Write the network as 16-bit safetensors."""
        if self.model is None:
            raise RuntimeError("configure_model comes first")
        save_blur(self.model, folder)


def balanced_kinds(u: Float[Tensor, "b"]) -> Int[Tensor, "b"]:
    """Return kinds for numbers in [0, 1): a third each verdict, equal shares within a verdict."""
    counts = torch.bincount(VERDICT_INDEX, minlength=len(VERDICTS))
    share = 1 / (len(VERDICTS) * counts[VERDICT_INDEX])
    return torch.searchsorted(share.cumsum(0)[:-1].to(u), u.contiguous(), right=True)
