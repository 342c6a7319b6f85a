"""The generator turn's sample, kept for the critic turn after it: in memory, and in the checkpoint between the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as distributed
from torch import Tensor

from dofsuite.data import Batch
from dofsuite.errors import UserError
from dofsuite.text2image.camera.exif import Exif


class Conditioning(NamedTuple):
    """What is asked of the generator: the prompts and the camera settings of a batch."""

    caption: list[str]
    f_number: Tensor
    """[b]"""
    focal_length_mm: Tensor
    """[b]"""
    width_px: Tensor
    """[b] long side of the uncropped picture, by which the lens knows its pixel pitch."""

    @classmethod
    def of(cls, batch: Batch) -> Conditioning:
        """What a batch's pictures would be asked as."""
        return cls(batch.caption, batch.f_number, batch.focal_length_mm, batch.width_px)

    @property
    def exif(self) -> Exif:
        """The camera settings."""
        return Exif(self.f_number, self.focal_length_mm)


class GeneratedSample(NamedTuple):
    """Samples of a rank, detached: latents as the critic sees them, and what was asked for."""

    latent: Tensor
    """[b, c, h, w]"""
    asked: Conditioning

    def parts(self, count: int) -> list[GeneratedSample]:
        """Divide into `count` parts, as `batch_parts` divides the batch."""
        return [
            GeneratedSample(latent, Conditioning(*asked))
            for latent, *asked in _divided((self.latent, *self.asked), count)
        ]

    @classmethod
    def joined(cls, parts: list[GeneratedSample]) -> GeneratedSample:
        """Undo `parts`."""
        asked = [_joined(column) for column in zip(*(part.asked for part in parts), strict=True)]
        return cls(torch.cat([part.latent for part in parts]), Conditioning(*asked))

    def to(self, device: torch.device | str) -> GeneratedSample:
        """Move the tensors."""
        asked = [field.to(device) if isinstance(field, Tensor) else field for field in self.asked]
        return GeneratedSample(self.latent.to(device), Conditioning(*asked))

    def state(self) -> dict[str, Any]:
        """Return the samples of all ranks as plain values, in the order of the global batch; every rank must ask."""
        mine = self.to("cpu")
        ranks = [mine]
        if distributed.is_available() and distributed.is_initialized():
            ranks = [mine] * distributed.get_world_size()
            distributed.all_gather_object(ranks, mine)
        whole = GeneratedSample.joined(ranks)
        return {"latent": whole.latent, "asked": whole.asked._asdict()}

    @classmethod
    def restored(cls, state: dict[str, Any], rank: int, ranks: int) -> GeneratedSample:
        """Return a rank's share of `state`: its slice of the global batch, as the data module deals the pictures."""
        return cls(state["latent"], Conditioning(**state["asked"])).parts(ranks)[rank]


def batch_parts(batch: Batch, count: int) -> list[Batch]:
    """Divide a batch into `count` parts of equal size.

    Raises:
        UserError: The batch does not divide.
    """
    if len(batch.key) % count:
        raise UserError(
            f"model.training.micro_batches: {count} parts of equal size cannot be made of a batch of "
            f"{len(batch.key)}; change it or data.batch_size."
        )
    return [Batch(*fields) for fields in _divided(batch, count)]


def _divided(columns: Sequence[Any], count: int) -> list[list[Any]]:
    """Cut columns of equal length, tensors or lists, into `count` rows of equal parts; what is left over is dropped."""
    size = len(columns[0]) // count
    return [[column[i * size : (i + 1) * size] for column in columns] for i in range(count)]


def _joined(parts: Sequence[Any]) -> Any:
    """Put tensors or lists behind one another."""
    return (
        torch.cat(list(parts))
        if isinstance(parts[0], Tensor)
        else [item for part in parts for item in part]
    )
