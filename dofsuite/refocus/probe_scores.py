"""The numbers of the probe: of a model, of what needs no model, and of the ground truth alike.

Convention: images are display values [b, 3, h, w] in [0, 1].
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric

from dofsuite.metrics import Alignment, BlurGain, LVCorr
from dofsuite.metrics.focus_hits import focus_hits
from dofsuite.training.validation import compute_all

# Largest blur radius of what counts as in focus.
IN_FOCUS_PX = 0.25


def absolute_error(
    pred: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, "b"]:
    """Return mean |pred - target| of each image."""
    return (pred - target).abs().mean(dim=(1, 2, 3))


def in_focus_error(
    pred: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    radius_px: Float[Tensor, "b 1 h w"],
    largest_px: float = IN_FOCUS_PX,
) -> Float[Tensor, "b"]:
    """Return the mean absolute error where a sharp reference should not change (*ours*).

        sum_p [|r_p| <= r_max] |pred_p - target_p| / (3 sum_p [|r_p| <= r_max])

    over the pixels p whose blur radius r_p in the target is at most r_max; 0 where there is none.
    The target's own light that bleeds into them from what is blurred is part of it.
    """
    in_focus = (radius_px.abs() <= largest_px).to(pred)
    error = ((pred - target).abs() * in_focus).sum(dim=(1, 2, 3))
    return error / (3 * in_focus.sum(dim=(1, 2, 3))).clamp(min=1)


def token_border_steps(
    image: Float[Tensor, "b 3 h w"], token_px: int
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Return the mean step between neighboring pixels at the borders of tokens, and elsewhere.

        mean |x_(i + 1) - x_i|, over rows and columns: where token_px divides i + 1; elsewhere

    Their ratio is about 1 for photographs, and above it where a model's tokens disagree (*ours*).

    Raises:
        ValueError: No border lies inside the image, or every step is one.
    """
    if token_px < 2 or max(image.shape[-2:]) <= token_px:
        raise ValueError(f"token_px: between 2 and the image's side is expected, not {token_px}")
    sums = image.new_zeros(2, len(image))
    counts = [0, 0]
    for dim in (-2, -1):
        # Steps along one axis, [b, steps]
        steps = image.diff(dim=dim).abs().mean(dim=(1, -3 - dim))
        is_border = torch.arange(1, steps.shape[1] + 1, device=image.device) % token_px == 0
        for row, mask in enumerate((is_border, ~is_border)):
            sums[row] += steps[:, mask].sum(dim=1)
            counts[row] += int(mask.sum())
    return sums[0] / counts[0], sums[1] / counts[1]


def standard_error(
    total: Float[Tensor, ""], total_of_squares: Float[Tensor, ""], count: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return a mean's standard error, sqrt(sum (x_i - mean)^2 / (n (n - 1))); NaN for n = 1."""
    squares = total_of_squares - total.square() / count
    return (squares.clamp(min=0) / (count * (count - 1))).sqrt()


class HitRate(nn.Module):
    """The focus hit rate and its standard error, over scenes: a scene's two points are one value.

    Scenes of one photograph resemble each other: the error is of other scenes of the same ones.
    """

    def __init__(self) -> None:
        super().__init__()
        # Any: torch types the items of a ModuleDict as modules without `update`.
        self.sums: Any = nn.ModuleDict(
            {"total": SumMetric(), "squares": SumMetric(), "count": SumMetric()}
        )

    def update(self, hits: Bool[Tensor, "b 2"]) -> None:
        rate = hits.float().mean(dim=1)
        self.sums["total"].update(rate)
        self.sums["squares"].update(rate.square())
        self.sums["count"].update(len(rate))

    def values(self) -> tuple[float, float]:
        sums = {name: torch.tensor(value) for name, value in compute_all(self.sums).items()}
        total, count = sums["total"], sums["count"]
        return float(total / count), float(standard_error(total, sums["squares"], count))


class ProbeScores(nn.Module):
    """The numbers of one predictor over the probe's scenes."""

    def __init__(self, levels: Sequence[int], token_px: int) -> None:
        super().__init__()
        self.levels, self.token_px = levels, token_px
        rising = [float(level) for level in levels]
        self.metrics: Any = nn.ModuleDict(
            {
                "lvcorr": LVCorr(rising),
                "blur_gain": BlurGain(rising),
                "mae": MeanMetric(),
                "refocus_mae": MeanMetric(),
                **{name: MeanMetric() for name in self.in_focus_names()},
                "border_steps": MeanMetric(),
                "other_steps": MeanMetric(),
                "shift_px": Alignment("shift"),
            }
        )
        self.hits = nn.ModuleDict({"focus_hit_rate": HitRate(), "refocus_hit_rate": HitRate()})

    def in_focus_names(self) -> tuple[str, str]:
        """Return the names of the errors in focus at the lowest and at the highest level."""
        return f"in_focus_mae_{self.levels[0]}", f"in_focus_mae_{self.levels[-1]}"

    def update(
        self,
        preds: list[Tensor],
        targets: list[Tensor],
        reference: Float[Tensor, "b 3 h w"],
        points: Float[Tensor, "b 2 2"],
        radii_px: tuple[Tensor, Tensor],
    ) -> None:
        """Score images of the sweep, of the pair from the all-in-focus image, and of the last pair.

        Args:
            preds: Of all queries, in this order.
            targets: Their ground truth.
            reference: The all-in-focus image that the sweep begins with.
            points: The pair's.
            radii_px: Blur radius [b, 1, h, w] of the sweep's first and last image.
        """
        # Strength of the blur over the sweep
        count = len(self.levels)
        sweep, true_sweep = torch.stack(preds[:count], 1), torch.stack(targets[:count], 1)
        self.metrics["lvcorr"].update(sweep)
        self.metrics["blur_gain"].update(sweep, true_sweep)
        # Which of the two points is the sharper one
        pair, refocused = preds[count : count + 2], preds[count + 2 :]
        for hits, images in zip(self.hits.values(), (pair, refocused), strict=True):
            hits.update(focus_hits(torch.stack(images, 1), points))  # type: ignore[operator]
        # Errors: of all, of what begins with a blurred image, of what is in focus
        for pred, target in zip(preds, targets, strict=True):
            self.metrics["mae"].update(absolute_error(pred, target))
        for pred, target in zip(refocused, targets[count + 2 :], strict=True):
            self.metrics["refocus_mae"].update(absolute_error(pred, target))
        for name, i, radius_px in zip(self.in_focus_names(), (0, count - 1), radii_px, strict=True):
            self.metrics[name].update(in_focus_error(preds[i], targets[i], radius_px))
        # Whether anything has moved, where the blur is weakest
        self.metrics["shift_px"].update(preds[0], reference)
        # Blocks, where blur would hide detail
        for pred in (*pair, *refocused):
            at_borders, elsewhere = token_border_steps(pred, self.token_px)
            self.metrics["border_steps"].update(at_borders)
            self.metrics["other_steps"].update(elsewhere)

    def values(self) -> dict[str, float]:
        """Return the numbers. Collective: must be called on all ranks."""
        with warnings.catch_warnings():
            # Copies of one image have no curve: their LVCorr is 0
            warnings.filterwarnings("ignore", "LVCorr")
            values = compute_all(self.metrics)
        values["token_border_ratio"] = values.pop("border_steps") / values.pop("other_steps")
        for name, hits in self.hits.items():
            rate, error = hits.values()  # type: ignore[operator]
            values |= {name: rate, f"{name}_se": error}
        return values
