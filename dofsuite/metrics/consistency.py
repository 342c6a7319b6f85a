"""Content Consistency under a change of aperture (Fine-grained Defocus Blur)."""

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dofsuite.metrics.guards import (
    check_callable,
    check_tensor,
    display_sweep,
    one_of,
    shape_of,
    short,
)
from dofsuite.metrics.precision import widen
from dofsuite.metrics.scalar_metric import ScalarMetric, name_of
from dofsuite.metrics.sweeps import Pairs, setting_pairs

# A pixel without a class in one of two images: ignored, inconsistent, or consistent if in both.
Unlabelled = Literal["skip", "miss", "match"]


@runtime_checkable
class Segmenter(Protocol):
    """Images [n, 3, h, w] in [0, 1] -> integer class ids [n, k, h', w'], likeliest class first.

    It may have attributes: `num_classes`, the number of its classes, and `name`, its name in
    reports.
    """

    def __call__(self, images: Tensor, /) -> Tensor:
        """Segment images of one scene; the output may have any size h', w'."""


def content_consistency(
    preds: Float[Tensor, "b s 3 h w"],
    segmenter: Segmenter,
    top_k: int = 3,
    reference: Pairs = "all",
    ignore_index: int | None = None,
    unlabelled: Unlabelled = "skip",
    num_classes: int | None = None,
) -> Float[Tensor, ""]:
    """Share of pixels whose top-k classes overlap in two settings, in [0, 1]; higher is better.

        CC = mean over scenes, pairs and pixels of [top_k(x_i) and top_k(x_j) share a class]

    Paper (supplement): the three class proposals of Semantic Segment Anything; which images are
    compared, and how pixels outside every mask count, is not stated. Here (*ours*): all
    pairs, so that no order of the settings matters, and unlabelled pixels are left out. Chance,
    `chance_consistency`, is high where classes are few: 71 % for top 3 of 10, 6 % for top 3 of 150;
    report it beside the score.

    Args:
        preds: images of every scene at every setting, display values in [0, 1].
        segmenter: see `Segmenter`; called with the settings of one scene at a time.
        top_k: number of the segmenter's classes that count, from the likeliest on.
        reference: `all` pairs, `adjacent` settings, or each with the `first` or with the `last` (of
            rising f-numbers the last is the sharpest).
        ignore_index: the id that means "no class"; it never matches. None: every id is a class.
        unlabelled: treatment of pixels that have no class in one of the two images: `skip` leaves
            them out, `miss` counts them as inconsistent, `match` too unless both have none.
        num_classes: number of classes; None for the segmenter's own `num_classes`, if it has one.

    Returns:
        A scalar; 0, with a warning, if no pixel counts.

    Raises:
        ValueError: on another shape, an unknown choice, or a segmenter whose classes are not
            [settings, k, h', w'] integers with k >= top_k.

    Example:
        >>> import torch
        >>> def by_brightness(images):  # four classes: the brightness in quarters
        ...     return (images.mean(dim=1, keepdim=True) * 4).long().clamp(max=3)
        >>> left_is_dark = torch.full((1, 2, 3, 4, 4), 0.9)
        >>> left_is_dark[:, 1, :, :, :2] = 0.1  # in the second setting only
        >>> content_consistency(left_is_dark, by_brightness, top_k=1).item()
        0.5
    """
    check_callable(segmenter, "segmenter")
    rule = Agreement(top_k, reference, ignore_index, unlabelled)
    warn_of_chance(num_classes_of(segmenter, num_classes), top_k)
    return _share(*agreeing_pixels(preds, segmenter, rule))


def chance_consistency(num_classes: int, top_k: int) -> float:
    """Probability that two random sets of k of n classes overlap: 1 - C(n - k, k) / C(n, k).

    Example:
        >>> [round(chance_consistency(n, 3), 2) for n in (10, 150)]
        [0.71, 0.06]
    """
    return 1 - math.comb(max(0, num_classes - top_k), top_k) / math.comb(num_classes, top_k)


def num_classes_of(segmenter: Segmenter, num_classes: int | None) -> int | None:
    return getattr(segmenter, "num_classes", None) if num_classes is None else num_classes


def warn_of_chance(num_classes: int | None, top_k: int) -> None:
    """Warn if `top_k` is above a tenth of the classes; ValueError if it is above their number."""
    if num_classes is None:
        return
    if top_k > num_classes:
        raise ValueError(
            f"top_k must be at most the number of classes, {num_classes}, not {top_k}."
        )
    if top_k > num_classes / 10:
        warnings.warn(
            f"ContentConsistency: {top_k} of {num_classes} classes meet by chance in "
            f"{chance_consistency(num_classes, top_k):.0%} of pixels.",
            stacklevel=3,
        )


@dataclass(frozen=True)
class Agreement:
    """Rule for when the classes of two pixels agree; see `content_consistency`'s arguments."""

    top_k: int = 3
    reference: Pairs = "all"
    ignore_index: int | None = None
    unlabelled: Unlabelled = "skip"

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, int) or self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {short(self.top_k)}.")
        one_of(self.reference, Pairs, "reference")
        one_of(self.unlabelled, Unlabelled, "unlabelled")

    def overlap(self, a: Int[Tensor, "k h w"], b: Int[Tensor, "k h w"]) -> Bool[Tensor, "h w"]:
        overlap = torch.zeros_like(a[0], dtype=torch.bool)
        for class_a in a:
            overlap |= ((class_a == b) & self.is_class(class_a)).any(dim=0)
        return overlap

    def labelled(self, classes: Int[Tensor, "k h w"]) -> Bool[Tensor, "h w"]:
        return self.is_class(classes).any(dim=0)

    def is_class(self, classes: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        if self.ignore_index is None:
            return torch.ones_like(classes, dtype=torch.bool)
        return classes != self.ignore_index

    def count(self, a: Int[Tensor, "k h w"], b: Int[Tensor, "k h w"]) -> tuple[Tensor, Tensor]:
        agreeing = self.overlap(a, b)
        counted = torch.ones_like(agreeing)
        if self.unlabelled == "match":
            agreeing |= ~self.labelled(a) & ~self.labelled(b)
        elif self.unlabelled == "skip":
            counted = self.labelled(a) & self.labelled(b)
        return agreeing.sum(), counted.sum()


@torch.no_grad()
def agreeing_pixels(preds: Tensor, segmenter: Segmenter, rule: Agreement) -> tuple[Tensor, Tensor]:
    preds = display_sweep(preds)
    agreeing = counted = torch.zeros((), dtype=torch.long, device=preds.device)
    for scene in preds:
        classes = _checked_classes(segmenter(scene), len(scene), rule.top_k)
        for i, j in zip(*setting_pairs(len(scene), rule.reference), strict=True):
            pair_agreeing, pair_counted = rule.count(classes[i], classes[j])
            agreeing = agreeing + pair_agreeing.to(preds.device)
            counted = counted + pair_counted.to(preds.device)
    return agreeing, counted


def _checked_classes(classes: Tensor, num_images: int, top_k: int) -> Int[Tensor, "n k h w"]:
    check_tensor(classes, "what segmenter gives")
    if (
        classes.is_floating_point()
        or classes.ndim != 4
        or len(classes) != num_images
        or classes.shape[1] < top_k
    ):
        raise ValueError(
            f"segmenter must give integers [{num_images}, {top_k} or more classes, h, w], not "
            f"{shape_of(classes)} of {classes.dtype}."
        )
    return classes[:, :top_k]


class ContentConsistency(ScalarMetric):
    """`content_consistency` over batches and processes.

    As input to `forward` and `update`: `preds` [batch, settings, 3, h, w], float, display values in
    [0, 1]. As output of `compute`: a scalar in [0, 1], higher is better; 0, with a warning, if no
    pixel counts. Every pixel of every pair weighs the same.

    Args:
        segmenter: see `Segmenter`. A network (in eval mode) is a submodule: moved, copied and saved
            with the metric.
        top_k: number of classes of a pixel that count.
        reference: `all`, `adjacent`, `first` or `last`.
        ignore_index: the id that means "no class", or None.
        unlabelled: `skip`, `miss` or `match`.
        num_classes: number of classes; None for the segmenter's own number. With it the metric
            knows `chance`, and warns where `top_k` is more than a tenth of it.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> def by_brightness(images):  # forty classes, the likeliest and its two neighbors
        ...     likeliest = (images.mean(dim=1, keepdim=True) * 40).long().clamp(1, 38)
        ...     return torch.cat([likeliest, likeliest - 1, likeliest + 1], dim=1)
        >>> metric = ContentConsistency(by_brightness, num_classes=40)
        >>> brightness = torch.tensor([0.5, 0.54, 0.9]).reshape(1, 3, 1, 1, 1)
        >>> metric.update(brightness.expand(1, 3, 3, 4, 4))
        >>> round(metric.compute().item(), 3), round(metric.chance, 3)
        (0.333, 0.214)
    """

    scenes: Tensor

    def __init__(
        self,
        segmenter: Segmenter,
        top_k: int = 3,
        reference: Pairs = "all",
        ignore_index: int | None = None,
        unlabelled: Unlabelled = "skip",
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_callable(segmenter, "segmenter")
        rule = Agreement(top_k, reference, ignore_index, unlabelled)
        num_classes = num_classes_of(segmenter, num_classes)
        warn_of_chance(num_classes, top_k)
        chance = None if num_classes is None else chance_consistency(num_classes, top_k)
        settings = {
            "segmenter": name_of(segmenter),
            **vars(rule),
            "chance": chance and round(chance, 4),
        }
        super().__init__(settings, network=segmenter, **kwargs)
        self.segmenter, self.rule = segmenter, rule
        self.chance = chance
        self.add_state("scenes", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor) -> None:
        agreeing, counted = agreeing_pixels(preds, self.segmenter, self.rule)
        self.total += agreeing
        self.count += counted
        self.scenes += len(preds)

    def compute(self) -> Tensor:
        if bool(self.scenes == 0):
            return super().compute()
        return _share(self.total, self.count)


def _share(agreeing: Tensor, counted: Tensor) -> Tensor:
    if bool(counted == 0):
        warnings.warn(
            "ContentConsistency: no pixel has a class in two images; the score is set to 0.",
            stacklevel=3,
        )
    return widen(agreeing) / counted.clamp(min=1)
