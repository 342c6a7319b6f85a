"""The generator step's sample, buffered for the next critic step, also in checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as distributed
from torch import Tensor

from dofsuite.data import Batch
from dofsuite.data.batch import NOT_ENCODED
from dofsuite.errors import UserError
from dofsuite.optics.scattering import without_autocast
from dofsuite.text2image.camera.exif import Exif


class Conditioning(NamedTuple):
    """Prompts and camera settings of a batch."""

    caption: list[str]
    f_number: Tensor  # [b]
    focal_length_mm: Tensor  # [b]
    # [b] long side of the uncropped image, and what it spans on the real sensor (NaN: the lens's
    # own width), from which the lens has its pixel pitch.
    width_px: Tensor
    sensor_width_mm: Tensor
    # [b, n, d] and [b, p] what the captions were encoded to beforehand; empty where they were not.
    prompt_tokens: Tensor
    prompt_pooled: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Conditioning:
        return cls(
            batch.caption,
            batch.f_number,
            batch.focal_length_mm,
            batch.width_px,
            batch.sensor_width_mm,
            batch.prompt_tokens,
            batch.prompt_pooled,
        )

    @property
    def exif(self) -> Exif:
        """F-number and focal length of the real lens, for the lens."""
        return Exif(self.f_number, self.focal_length_mm)

    @property
    def full_frame_exif(self) -> Exif:
        """The same view and blur on full frame, for networks that are conditioned on EXIF."""
        return self.exif.on_full_frame(self.sensor_width_mm)


class GeneratedSample(NamedTuple):
    """A rank's generated samples, detached, with their conditioning."""

    latent: Tensor  # [b, c, h, w] as the critic is given it
    cond: Conditioning

    def split(self, count: int) -> list[GeneratedSample]:
        """Split into `count` micro-batches, as `split_batch` splits the batch."""
        columns = (self.latent, *self.cond)
        return [
            GeneratedSample(latent, Conditioning(*cond)) for latent, *cond in _split(columns, count)
        ]

    @classmethod
    def joined(cls, parts: Sequence[GeneratedSample]) -> GeneratedSample:
        columns = zip(*(part.cond for part in parts), strict=True)
        cond = Conditioning(*(_joined(column) for column in columns))
        return cls(torch.cat([part.latent for part in parts]), cond)

    def to(self, device: torch.device | str) -> GeneratedSample:
        cond = (each.to(device) if isinstance(each, Tensor) else each for each in self.cond)
        return GeneratedSample(self.latent.to(device), Conditioning._make(cond))

    def state(self) -> dict[str, Any]:
        """Return the samples of all ranks as plain values, in the order of the global batch.

        Collective: must be called on all ranks.
        """
        own = self.to("cpu")
        ranks = [own]
        if distributed.is_available() and distributed.is_initialized():
            ranks = [own] * distributed.get_world_size()
            distributed.all_gather_object(ranks, own)
        every = GeneratedSample.joined(ranks)
        return {"latent": every.latent, "cond": every.cond._asdict()}

    @classmethod
    def from_state(cls, state: dict[str, Any], rank: int, world_size: int) -> GeneratedSample:
        """Return a rank's share of `state`: its slice of the global batch, as the data's."""
        # Checkpoints from before the entry was renamed call it `asked`.
        cond = dict(state["cond"] if "cond" in state else state["asked"])
        # Those from before sensor widths were read are of full-frame cameras.
        cond.setdefault("sensor_width_mm", torch.full_like(cond["width_px"], math.nan))
        for name, tensor in zip(("prompt_tokens", "prompt_pooled"), NOT_ENCODED, strict=True):
            empty = tensor.expand(len(cond["caption"]), *tensor.shape)
            cond.setdefault(name, empty)
        return cls(state["latent"], Conditioning(**cond)).split(world_size)[rank]


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into `count` micro-batches of equal size.

    Raises:
        UserError: The batch size is no multiple of `count`.
    """
    if len(batch.key) % count:
        raise UserError(
            f"model.training.micro_batches: {count} parts of equal size cannot be made of a batch "
            f"of {len(batch.key)}; change it or data.batch_size."
        )
    return [Batch(*fields) for fields in _split(batch, count)]


def _split(columns: Sequence[Any], count: int) -> list[list[Any]]:
    """Cut columns of equal length, tensors or lists, into `count` rows; a remainder is dropped."""
    size = len(columns[0]) // count
    return [[column[i * size : (i + 1) * size] for column in columns] for i in range(count)]


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        with without_autocast(parts[0]):  # a CPU's refuses to join float16
            return torch.cat(list(parts))
    return [item for part in parts for item in part]
