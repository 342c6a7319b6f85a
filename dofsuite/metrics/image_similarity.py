"""CLIP-I: cosine similarity of image embeddings (DreamBooth; DiffCamera, section 4)."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.metrics.guards import check_callable, display_images, shape_of, short
from dofsuite.metrics.precision import widen
from dofsuite.metrics.scalar_metric import ScalarMetric, name_of


@runtime_checkable
class ImageEmbedder(Protocol):
    """Images [n, 3, h, w] in [0, 1] -> embeddings [n, d]; it resizes and normalizes them itself.

    It may have an attribute `name`, its name in reports.
    """

    def __call__(self, images: Tensor, /) -> Tensor:
        """Embed images."""


def clip_image_similarity(
    preds: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "b 3 H W"], embedder: ImageEmbedder
) -> Float[Tensor, ""]:
    """Mean cosine of the embeddings of each image and its reference; higher is better.

        CLIP-I = mean over images of <e(pred), e(reference)> / (|e(pred)| |e(reference)|)

    Paper (DreamBooth, DiffCamera): "CLIP image embeddings", network not stated; DiffCamera's own
    ground truth scores .970, so the reference is the input image, not the true output. Here: any
    embedder, and its name in the repr.

    Args:
        preds: images in [0, 1].
        reference: the image that each is compared with, of any size.
        embedder: see `ImageEmbedder`.

    Returns:
        A scalar in [-1, 1], float64, 1 for a copy; an embedding of zeros counts as 0.

    Raises:
        ValueError: on shapes that do not fit, or an embedder that does not give [n, d] numbers.

    Example:
        >>> import torch
        >>> def mean_color(images):
        ...     return images.mean(dim=(-2, -1))
        >>> red, green = torch.eye(3)[:2].reshape(2, 1, 3, 1, 1).expand(2, 1, 3, 4, 4)
        >>> yellow = red + green
        >>> round(clip_image_similarity(yellow, red, mean_color).item(), 4)  # cosine of 45 degrees
        0.7071
    """
    return _cosines(preds, reference, embedder).mean()


def _cosines(preds: Tensor, reference: Tensor, embedder: ImageEmbedder) -> Float[Tensor, " b"]:
    # Check.
    check_callable(embedder, "embedder")
    preds, reference = display_images(preds), display_images(reference, "reference")
    if len(preds) != len(reference):
        raise ValueError(
            f"preds and reference must be pairs, not {len(preds)} and {len(reference)} images."
        )
    # Embed and compare.
    a, b = _embeddings(embedder, preds), _embeddings(embedder, reference)
    # The root of the product, not the product of the roots: a copy scores exactly 1.
    norm = ((a * a).sum(dim=1) * (b * b).sum(dim=1)).sqrt()
    return (a * b).sum(dim=1) / norm.clamp(min=torch.finfo(norm.dtype).tiny)


def _embeddings(embedder: ImageEmbedder, images: Tensor) -> Float[Tensor, "b d"]:
    embeddings = embedder(images)
    if not isinstance(embeddings, Tensor):
        raise ValueError(
            f"embedder must return a tensor, not {short(type(embeddings).__name__)}; of a "
            "transformers output take `pooler_output`."
        )
    if embeddings.ndim != 2 or len(embeddings) != len(images):
        raise ValueError(f"embedder must return [{len(images)}, d], not {shape_of(embeddings)}.")
    return widen(embeddings)


class CLIPImageSimilarity(ScalarMetric):
    """`clip_image_similarity` over batches and processes.

    As input to `forward` and `update`: `preds` [batch, 3, h, w] and `reference` [batch, 3, H, W],
    float, in [0, 1]. As output of `compute`: a scalar in [-1, 1], higher is better. Scores of two
    backbones cannot be compared: `label` and the repr name the backbone.

    With transformers: `lambda x: clip.get_image_features(pixel_values=prepare(x)).pooler_output`
    for a `CLIPModel` of transformers 5, where `prepare` resizes to 224 and normalizes.

    Args:
        embedder: see `ImageEmbedder`. A network (in eval mode) is a submodule: moved, copied and
            saved with the metric.
        backbone: what the embedder is, for reports; None for its own `name`, or the name of its
            function or class.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> def mean_color(images):
        ...     return images.mean(dim=(-2, -1))
        >>> metric = CLIPImageSimilarity(mean_color)
        >>> images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> metric.update(images, images)
        >>> metric.label, metric.compute().item()
        ('CLIP-I (mean_color)', 1.0)
    """

    is_differentiable = True  # as far as the embedder is
    plot_lower_bound = -1.0

    def __init__(self, embedder: ImageEmbedder, backbone: str | None = None, **kwargs: Any) -> None:
        check_callable(embedder, "embedder")
        backbone = name_of(embedder) if backbone is None else backbone
        zero = torch.zeros((), dtype=torch.float64)
        super().__init__({"backbone": backbone}, zero, embedder, **kwargs)
        self.embedder, self.backbone = embedder, backbone

    @property
    def label(self) -> str:
        return f"CLIP-I ({self.backbone})"

    def update(self, preds: Tensor, reference: Tensor) -> None:
        self.total += _cosines(preds, reference, self.embedder).sum()
        self.count += len(preds)
