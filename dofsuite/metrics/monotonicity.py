"""Blur Monotonicity: is an image sharper at every larger f-number? (Fine-grained Defocus Blur)."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dofsuite.metrics.guards import (
    display_sweep,
    display_values,
    finite_numbers,
    one_of,
    short,
)
from dofsuite.metrics.precision import tolerance, widen
from dofsuite.metrics.scalar_metric import ScalarMetric, draw_curve
from dofsuite.metrics.sharpness import laplacian_variance
from dofsuite.metrics.sweeps import setting_pairs

# Which energy is compared; see `blur_energy`.
Mode = Literal["paper", "ac", "high_band", "laplacian"]
# Which settings are compared.
StepPairs = Literal["adjacent", "all"]

# `high_band` begins at half the Nyquist frequency (*ours*).
HIGH_BAND_CYCLES_PER_PX = 0.25
# Relative difference of tied energies: far above float64's rounding, far below an 8-bit step.
TIE = 1e-12
# The same on devices without float64, where it hides a change of less than a millionth.
TIE_FLOAT32 = 1e-6


def blur_monotonicity(
    preds: Float[Tensor, "b s 3 h w"], mode: Mode = "paper", pairs: StepPairs = "adjacent"
) -> Float[Tensor, ""]:
    """Share of pairs of settings whose energy increases with the f-number; higher is better.

        BM = mean over scenes and pairs i < j of [E(x_j) > E(x_i)],   x_i by rising f-number

    Paper (supplement, section F): in percent over f/1.8 to f/22; which pairs is not stated, and
    "chance 50" fits both. Here (*inferred*): adjacent ones by default. A tie fails; a warning and
    `BlurMonotonicity.ties` tell the share of ties.

    The paper's theorem, E(h * x) <= E(x), holds for the values that the lens blurs. So `paper`
    needs a lens that blurs display values: a perfect lens that blurs light scores 0 to 12 % on what
    is displayed (gamma 2.2), because the energy of displayed pixels is concave in light, and a 1 %
    change of brightness can reverse the order. `ac`, without the mean, scores 100 % for both; at
    gamma 4 even that fails where small lights grow, `high_band` and `laplacian` do not.

    Args:
        preds: images of every scene in order of rising f-number, display values in [0, 1].
        mode: the energy, see `blur_energy`.
        pairs: adjacent settings, or every setting with every later one.

    Returns:
        A scalar in [0, 1]; chance is 0.5.

    Raises:
        ValueError: on another shape, fewer than two settings, values that are not finite, or an
            unknown choice.

    Example:
        >>> import torch
        >>> noise = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> contrast = torch.tensor([0.2, 0.5, 0.4]).reshape(1, 3, 1, 1, 1)
        >>> blur_monotonicity(0.5 + noise * contrast).item()  # 0.4 is less than 0.5,
        0.5
        >>> round(blur_monotonicity(0.5 + noise * contrast, pairs="all").item(), 3)  # more than 0.2
        0.667
    """
    steps = energy_steps(preds, mode, pairs)
    return _share_of_increases((steps > 0).sum(), (steps == 0).sum(), steps.numel())


def blur_energy(
    image: Float[Tensor, "*batch 3 h w"], mode: Mode = "paper"
) -> Float[Tensor, "*batch"]:
    """Signal energy of an image, summed over its channels; more is sharper, all else equal.

        paper      sum_k |F_k|^2,  F = FFT2(x) unnormalized;  by Parseval h w sum_p x_p^2
        ac         the same without k = 0, the mean:  h w sum_p (x_p - mean)^2
        high_band  the same over frequencies of at least `HIGH_BAND_CYCLES_PER_PX` (periodic border)
        laplacian  `laplacian_variance` of the 8-bit gray image

    Paper (eq. of section F): `paper`; color and range are not stated. Here (*inferred*): RGB in
    [0, 1], unrounded. The other three are *ours*.

    Args:
        image: display values in [0, 1], any leading dimensions.
        mode: which energy.

    Returns:
        One number for each image, float64 (float32 on devices that have none).

    Example:
        >>> import torch
        >>> image = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0)).double()
        >>> spectrum = torch.fft.fft2(image)
        >>> torch.allclose(blur_energy(image), spectrum.abs().square().sum(), rtol=1e-12)
        True
    """
    return _energy(display_values(image), mode)


def _energy(values: Float[Tensor, "*batch 3 h w"], mode: Mode) -> Float[Tensor, "*batch"]:
    energy = ENERGIES[one_of(mode, Mode, "mode")]
    return energy(values if mode == "laplacian" else widen(values))


def _sum_of_squares(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    return height * width * image.square().sum(dim=(-3, -2, -1))


def _around_the_mean(image: Tensor) -> Tensor:
    around_mean = image - image.mean(dim=(-2, -1), keepdim=True)
    return _without_rounding(_sum_of_squares(around_mean), image)


def _high_band(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    rows = torch.fft.fftfreq(height, dtype=image.dtype, device=image.device)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=image.dtype, device=image.device)
    # rfft2 leaves out the conjugates of all columns but the first and, of an even width, the last.
    weight = torch.where((columns == 0) | (columns == 0.5), 1.0, 2.0)
    band = weight * ((rows.square() + columns.square()).sqrt() >= HIGH_BAND_CYCLES_PER_PX)
    spectrum = torch.fft.rfft2(image)
    power = spectrum.real.square() + spectrum.imag.square()
    return _without_rounding((power * band).sum(dim=(-3, -2, -1)), image)


def _without_rounding(energy: Tensor, image: Tensor) -> Tensor:
    """A flat image leaves float64's rounding, some 1e-32 of its energy: that is 0."""
    rounding = tolerance(image, 1e-24, 1e-10)
    return energy.masked_fill(energy <= rounding * _sum_of_squares(image), 0.0)


# Energies of display values in [0, 1]: a new one is one more line here and in `Mode`.
ENERGIES: dict[Mode, Callable[[Tensor], Tensor]] = {
    "paper": _sum_of_squares,
    "ac": _around_the_mean,
    "high_band": _high_band,
    "laplacian": laplacian_variance,
}


def energy_steps(preds: Tensor, mode: Mode, pairs: StepPairs) -> Int[Tensor, "b p"]:
    """For each scene and pair of settings: 1 if the later has more energy, 0 if tied, else -1."""
    return steps_of(sweep_energies(preds, mode), pairs)


@torch.no_grad()
def sweep_energies(
    preds: Tensor, mode: Mode, num_settings: int | None = None
) -> Float[Tensor, "b s"]:
    """The energy of each scene at each setting."""
    preds = display_sweep(preds, num_settings)
    # Scene by scene: a float64 copy and spectrum of the batch need not exist at once.
    return torch.stack([_energy(scene, mode) for scene in preds])


def steps_of(energy: Float[Tensor, "b s"], pairs: StepPairs) -> Int[Tensor, "b p"]:
    """Signs of the steps of the energies; see `energy_steps`."""
    first, second = setting_pairs(energy.shape[1], one_of(pairs, StepPairs, "pairs"))
    earlier, later = energy[:, first], energy[:, second]
    step = later - earlier
    tie = tolerance(energy, TIE, TIE_FLOAT32) * torch.maximum(earlier, later)
    return step.masked_fill(step.abs() <= tie, 0.0).sign().long()


class BlurMonotonicity(ScalarMetric):
    """`blur_monotonicity` over batches and processes.

    As input to `forward` and `update`: `preds` [batch, settings, 3, h, w], float, in [0, 1], in
    order of rising f-number. As output of `compute`: a scalar in [0, 1], higher is better, 0.5 is
    chance; it warns of ties.

    Args:
        f_numbers: the settings, rising; None for any number of them.
        mode: `paper`, `ac`, `high_band` or `laplacian`, see `blur_energy`.
        pairs: `adjacent` or `all`.
        kwargs: see `torchmetrics.Metric`.

    Raises:
        ValueError: if f-numbers do not rise or a choice is unknown.

    Example:
        >>> import torch
        >>> noise = torch.rand(4, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> metric = BlurMonotonicity(f_numbers=[1.8, 4, 16], mode="ac")
        >>> metric.update(0.5 + noise * torch.tensor([0.2, 0.5, 1.0]).reshape(1, 3, 1, 1, 1))
        >>> metric.compute().item(), metric.ties().item()
        (1.0, 0.0)
    """

    tied: Tensor
    energy: Tensor

    def __init__(
        self,
        f_numbers: Sequence[float | int] | None = None,
        mode: Mode = "paper",
        pairs: StepPairs = "adjacent",
        **kwargs: Any,
    ) -> None:
        if f_numbers is not None:
            numbers = finite_numbers(f_numbers, "f_numbers")
            if numbers != sorted(set(numbers)):
                raise ValueError(f"f_numbers must be at least two, rising, not {short(f_numbers)}.")
        self.mode = one_of(mode, Mode, "mode")
        self.pairs = one_of(pairs, StepPairs, "pairs")
        f_numbers = None if f_numbers is None else list(f_numbers)
        super().__init__({"f_numbers": f_numbers, "mode": mode, "pairs": pairs}, **kwargs)
        self.num_settings = None if f_numbers is None else len(f_numbers)
        self.add_state("tied", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        zeros = torch.zeros(self.num_settings or 1, dtype=torch.float64)
        self.add_state("energy", zeros, dist_reduce_fx="sum")

    def update(self, preds: Tensor) -> None:
        energy = sweep_energies(preds, self.mode, self.num_settings)
        steps = steps_of(energy, self.pairs)
        if self.num_settings is not None:
            self.energy += energy.sum(dim=0)
        self.total += (steps > 0).sum()
        self.tied += (steps == 0).sum()
        self.count += steps.numel()

    def compute(self) -> Tensor:
        return _share_of_increases(self.total, self.tied, self.count)

    def ties(self) -> Tensor:
        """The share of tied pairs so far. Collective: must be called on all ranks."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return widen(self.tied) / self.count

    def plot_curve(self, ax: Any = None) -> Any:
        """Draw the energy so far over that at the last f-number; needs matplotlib.

        Collective: must be called on all ranks.

        Args:
            ax: the matplotlib axis to draw on; None for a new one.

        Returns:
            The figure and its axis.

        Raises:
            ValueError: the metric was made without f-numbers.
            ModuleNotFoundError: without matplotlib.
        """
        f_numbers = self.settings["f_numbers"]
        if not isinstance(f_numbers, Sequence):
            raise ValueError("plot_curve needs the settings: BlurMonotonicity(f_numbers=[...]).")
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            relative = self.energy / self.energy[-1]
        labels = ("f-number", f"energy ({self.mode}) over that of the last")
        return draw_curve([float(number) for number in f_numbers], relative, labels, ax)


def _share_of_increases(increases: Tensor, ties: Tensor, count: Tensor | int) -> Tensor:
    if bool(ties > 0):
        warnings.warn(
            f"BlurMonotonicity: {ties.item() / float(count):.1%} of the pairs are ties and count "
            "as failures.",
            stacklevel=3,
        )
    return widen(increases) / count
