"""CLIP-I: how much a picture still shows what its reference shows (DreamBooth; DiffCamera, section 4)."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.metrics.scalar_metric import ScalarMetric, name_of
from dofsuite.metrics.sweeps import check_pictures


@runtime_checkable
class ImageEmbedder(Protocol):
    """Pictures [n, 3, h, w] in [0, 1] -> embeddings [n, d]; resizing and normalising are its own.

    `name`, where it has one, says which network it is.
    """

    def __call__(self, images: Tensor, /) -> Tensor:
        """Embed pictures."""


def clip_image_similarity(
    preds: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "b 3 H W"], embedder: ImageEmbedder
) -> Float[Tensor, ""]:
    """Mean cosine of the embeddings of each picture and its reference, in [-1, 1]; 1 for a copy; higher is better.

        CLIP-I = mean over pictures of <e(pred), e(reference)> / (|e(pred)| |e(reference)|)

    Paper (DreamBooth, DiffCamera): "CLIP image embeddings", network not stated; DiffCamera's own
    ground truth scores .970, so the reference is the input picture, not the true output. Here: any
    embedder, and its name in the repr.

    Args:
        preds: pictures in [0, 1].
        reference: the picture that each is compared with, of any size.
        embedder: see `ImageEmbedder`.

    Returns:
        A scalar, float64; an embedding of zeros counts as 0.

    Raises:
        ValueError: on shapes that do not fit, or an embedder that does not give [n, d] numbers.

    Example:
        >>> import torch
        >>> def mean_colour(images):
        ...     return images.mean(dim=(-2, -1))
        >>> red, green = torch.eye(3)[:2].reshape(2, 1, 3, 1, 1).expand(2, 1, 3, 4, 4)
        >>> yellow = red + green
        >>> round(clip_image_similarity(yellow, red, mean_colour).item(), 4)  # the cosine of 45
        degrees 0.7071
    """
    return _cosines(preds, reference, embedder).mean()


def _cosines(preds: Tensor, reference: Tensor, embedder: ImageEmbedder) -> Float[Tensor, " b"]:
    for name, pictures in (("preds", preds), ("reference", reference)):
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ValueError(f"{name} must be [batch, 3, h, w], not {list(pictures.shape)}.")
        check_pictures(pictures, name)
    if len(preds) != len(reference):
        raise ValueError(
            f"preds and reference must be pairs, not {len(preds)} and {len(reference)} pictures."
        )
    a, b = _embeddings(embedder, preds), _embeddings(embedder, reference)
    # the root of the product, not the product of the roots: a copy scores 1 to the last bit
    norm = ((a * a).sum(dim=1) * (b * b).sum(dim=1)).sqrt()
    return (a * b).sum(dim=1) / norm.clamp(min=torch.finfo(torch.float64).tiny)


def _embeddings(embedder: ImageEmbedder, pictures: Tensor) -> Float[Tensor, "b d"]:
    embeddings = embedder(pictures)
    if not isinstance(embeddings, Tensor):
        kind = type(embeddings).__name__
        raise ValueError(
            f"embedder must return a tensor, not {kind}; of a transformers output take `pooler_output`."
        )
    if embeddings.ndim != 2 or len(embeddings) != len(pictures):
        raise ValueError(
            f"embedder must return [{len(pictures)}, d], not {list(embeddings.shape)}."
        )
    return embeddings.double()


class CLIPImageSimilarity(ScalarMetric):
    """`clip_image_similarity` over batches and processes.

    As input to `forward` and `update`: `preds` [batch, 3, h, w] and `reference` [batch, 3, H, W],
        float, in [0, 1].
    As output of `compute`: a scalar in [-1, 1], higher is better. Scores of two backbones cannot be
    compared: `label` and the repr name it.

    With transformers: `lambda x: clip.get_image_features(pixel_values=prepare(x)).pooler_output`
    for a `CLIPModel` of transformers 5, where `prepare` resizes to 224 and normalises.

    Args:
        embedder: see `ImageEmbedder`. A network (in eval mode) is a submodule: moved, copied and
            saved with the metric.
        backbone: what the embedder is, for reports; None for its own `name`, or the name of its
            function or class.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> def mean_colour(images):
        ...     return images.mean(dim=(-2, -1))
        >>> metric = CLIPImageSimilarity(mean_colour)
        >>> pictures = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> metric.update(pictures, pictures)
        >>> metric.label, metric.compute().item()
        ('CLIP-I (mean_colour)', 1.0)
    """

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    total: Tensor
    count: Tensor

    def __init__(self, embedder: ImageEmbedder, backbone: str | None = None, **kwargs: Any) -> None:
        backbone = name_of(embedder) if backbone is None else backbone
        super().__init__({"backbone": backbone}, **kwargs)
        self.embedder, self.backbone = embedder, backbone
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @property
    def label(self) -> str:
        """What a report calls the score."""
        return f"CLIP-I ({self.backbone})"

    def update(self, preds: Tensor, reference: Tensor) -> None:
        """Add a batch of pictures and their references."""
        self.total += _cosines(preds, reference, self.embedder).sum()
        self.count += len(preds)

    def compute(self) -> Tensor:
        """The mean of all pictures so far."""
        return self.total / self.count
