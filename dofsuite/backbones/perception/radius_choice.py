"""Which radius of blur: of each cell of a photograph, and of the photograph.

A cell sees its surroundings and is often in doubt: where there is no texture, under noise. A
photograph has few radii. Their shares of it are estimated from all cells, by EM for the weights of
a mixture, and decide with each cell's own likelihoods (*ours*).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from dofsuite.backbones.perception.residual_blocks import residual_blocks, start_at_zero

# Side of the cells in which the radius is estimated.
CELL_PX = 8
# A new network takes everything for sharp: its logits are multiplied so that this can change soon.
SHARP_BIAS, LOGIT_SCALE = 3.0, 3.0
# Shares of no blur and of the smallest radius in training, the others being alike. The first is set
# below its true .4, which makes no blur likelier: in doubt a photograph stays as it is.
SHARP_SHARE, SMALLEST_RADIUS_SHARE = 0.12, 0.06
# Neighboring cells say the same: the exponent of their likelihoods for the shares; steps of EM.
CELL_EXPONENT, EM_STEPS = 0.5, 20
# An inverse where there is no blur does more harm than none where there is: its odds in a cell.
SHARP_ODDS = 10.0
# Variance below which a combination of features is noise.
SMALLEST_VARIANCE = 1e-3
# Standard deviations beyond which a feature says no more; without this, losses jump.
LARGEST_FEATURE = 4.0


class Choice(NamedTuple):
    """What is mixed in each cell.

    Attributes:
        logits: [b, 1 + radii, r, s], of no blur and of each radius.
        share: [b, 1, r, s], of the stronger regularization, in [0, 1].
    """

    logits: Tensor
    share: Tensor


class RadiusChoice(nn.Module):
    """Probabilities of the radii in each cell, from the gradients of all inverses.

    Those of neighboring radii differ by little, so features are whitened first; this takes most of
    the time to learn away. Then cells, pairs of cells for a wider view, and cells again.
    """

    mean: Tensor
    whitening: Tensor

    CELL_BLOCKS, PAIR_BLOCKS = 2, 3

    def __init__(self, features: int, width: int, radii: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whitening", torch.eye(features))
        self.first = nn.Conv2d(features, width, 1)
        self.before = residual_blocks(self.CELL_BLOCKS, width)
        self.wide = residual_blocks(self.PAIR_BLOCKS, width)
        self.after = residual_blocks(self.CELL_BLOCKS, width)
        # No blur, the radii, the share of the stronger regularization
        self.last = nn.Conv2d(width, 1 + radii + 1, 1)
        start_at_zero(self.last)
        with torch.no_grad():
            self.last.bias[0] = SHARP_BIAS  # type: ignore[index]

    @classmethod
    def reach_px(cls) -> int:
        """How far away a pixel still matters."""
        blocks = 2 * cls.CELL_BLOCKS + 2 * cls.PAIR_BLOCKS
        # Two convolutions a block; enlarging reaches one cell and one pair, a gradient one pixel
        return CELL_PX * (2 * blocks + 1 + 2 + 1)

    @torch.no_grad()
    def calibrate(self, features: Float[Tensor, "b f r s"]) -> None:
        """Whiten what has the mean and the covariance of these features."""
        samples = features.transpose(0, 1).flatten(1).double()
        variances, directions = torch.linalg.eigh(samples.cov())
        whitening = (directions * (variances.clamp(min=0) + SMALLEST_VARIANCE).rsqrt()).T
        # Rounded as they are saved, since later sums depend on every bit
        self.mean.copy_(samples.mean(1).half())
        self.whitening.copy_(whitening.half())

    def forward(self, features: Float[Tensor, "b f r s"]) -> Choice:
        """Choose for cells of which there is an even number on each side."""
        white = conv2d(features - self.mean[:, None, None], self.whitening[..., None, None])
        x = self.before(self.first(white.clamp(-LARGEST_FEATURE, LARGEST_FEATURE)))
        wide = self.wide(avg_pool2d(x, 2))
        x = x + interpolate(wide, scale_factor=2, mode="bilinear", align_corners=False)
        answer = LOGIT_SCALE * self.last(self.after(x))
        return Choice(answer[:, :-1], answer[:, -1:].sigmoid())


def cell_likelihoods(logits: Float[Tensor, "b k r s"]) -> Float[Tensor, "b k r s"]:
    """Return each cell's likelihoods of no blur and of the radii, the largest being 1.

    They are the probabilities over the shares in training.
    """
    others = (1 - SHARP_SHARE - SMALLEST_RADIUS_SHARE) / max(logits.shape[1] - 2, 1)
    prior = torch.full_like(logits[:1, :, :1, :1], others)
    prior[:, 0], prior[:, 1] = SHARP_SHARE, SMALLEST_RADIUS_SHARE
    log_ratio = logits - prior.log()
    return (log_ratio - log_ratio.amax(1, keepdim=True)).exp()


def image_shares(likelihoods: Float[Tensor, "b k r s"]) -> Float[Tensor, "b k"]:
    """Return the shares of no blur and of the radii in an image, the most likely ones by EM."""
    likelihoods = likelihoods**CELL_EXPONENT
    shares = torch.full_like(likelihoods[:, :, 0, 0], 1 / likelihoods.shape[1])
    for _ in range(EM_STEPS):
        shares = cell_probabilities(likelihoods, shares).mean((2, 3))
    return shares


def cell_probabilities(
    likelihoods: Float[Tensor, "b k r s"], shares: Float[Tensor, "b k"]
) -> Float[Tensor, "b k r s"]:
    """Return each cell's probabilities, given the shares in the image."""
    joint = shares[:, :, None, None] * likelihoods
    return joint / joint.sum(1, keepdim=True)


def mixture_weights(
    likelihoods: Float[Tensor, "b k r s"], shares: Float[Tensor, "b k"]
) -> Float[Tensor, "b k r s"]:
    """Return what a cell takes of its light as it is, as in doubt it does, and of each inverse."""
    odds = torch.ones_like(shares)
    odds[:, 0] = SHARP_ODDS
    return cell_probabilities(likelihoods, odds * shares)
