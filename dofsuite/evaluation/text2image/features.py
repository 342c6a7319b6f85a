"""How far images are from photographs: torchmetrics' KID and FID, on the features of a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from dofsuite.backbones import SmallSaliency, load_efficientnet
from dofsuite.errors import UserError
from dofsuite.images import to_uint8

# Images [n, 3, h, w] in [0, 1] -> features [n, d] in float64.
FeatureExtractor = Callable[[Tensor], Tensor]

# Of KID: torchmetrics' defaults, as in its paper (arXiv 1801.01401), where the sets are larger.
NUM_SUBSETS, SUBSET_SIZE = 100, 1000
# Of KID's kernel (x y / d + COEF) ** DEGREE, as in its paper.
DEGREE, COEF = 3, 1.0
# Main directions of the small network's features; few, so that 2000 images fix a covariance.
NUM_DIRECTIONS = 48
# Photographs for each main direction, at least (*ours*).
PHOTOGRAPHS_PER_DIRECTION = 16


class Inception:
    """FID's own network through torchmetrics, pool layer of 2048 numbers."""

    def __init__(self, device: torch.device) -> None:
        try:
            self.network = FrechetInceptionDistance(feature=2048).inception.to(device)
        except (ModuleNotFoundError, ImportError) as error:
            raise UserError(
                "--features inception: needs packages; pip install torchvision torch-fidelity, or "
                "take small."
            ) from error

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2048"]:
        return self.network(to_uint8(images)).double()


class SmallFeatures:
    """Mean and deviation over the positions of the small saliency network's last tokens.

    FID's own network needs torchvision and was made for images of 299 px; this one knows the
    synthetic scenes.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.saliency = SmallSaliency().load()
        self.saliency.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        tokens: list[Tensor] = []

        def keep_tokens(module: nn.Module, args: Any, output: Any) -> None:
            tokens.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

        # Capture the encoder's output, [n, tokens, channels]
        handle = self.saliency.network.backbone.encoder.register_forward_hook(keep_tokens)
        try:
            self.saliency(images)
        finally:
            handle.remove()
        return torch.cat([tokens[0].mean(dim=1), tokens[0].std(dim=1)], dim=1).double()


def main_directions(
    features: Float[Tensor, "n d"], count: int = NUM_DIRECTIONS
) -> Float[Tensor, "d k"]:
    """Return the `count` directions of largest variance, scaled so that each has variance 1."""
    centered = features - features.mean(dim=0)
    svd = torch.linalg.svd(centered, full_matrices=False)
    return svd.Vh[:count].T / (svd.S[:count] / len(features) ** 0.5)


def load_extractor(
    network: str, embedder: FeatureExtractor | None, device: torch.device
) -> FeatureExtractor | None:
    if network == "none":
        return None
    if network == "efficientnet":
        embedder = load_efficientnet().to(device)
    if network in ("clip", "efficientnet"):
        if embedder is None:
            raise UserError("--features clip: there is no CLIP; name one with --clip.")
        return lambda images: embedder(images).double()
    return Inception(device) if network == "inception" else SmallFeatures(device)


class PrecomputedFeatures(nn.Module):
    """Identity feature extractor: lets torchmetrics' KID and FID take precomputed features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


@torch.no_grad()
def frechet_distance(real: Float[Tensor, "m d"], fake: Float[Tensor, "n d"]) -> float:
    """Return FID: the Frechet distance of Gaussians (arXiv 1706.08500)."""
    metric = FrechetInceptionDistance(PrecomputedFeatures(real.shape[1])).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


@dataclass(frozen=True)
class ReferenceFeatures:
    features: Float[Tensor, "m k"]
    # Subtracted from all images' features first: KID's kernel depends on the origin.
    mean: Float[Tensor, " d"] | None
    # Basis that the features are projected on then.
    directions: Float[Tensor, "d k"] | None
    # Images in a subset of KID.
    subset_size: int

    @classmethod
    def from_raw(cls, raw: Float[Tensor, "m d"], network: str, num_fake: int) -> ReferenceFeatures:
        """Take the photographs' features; the small network's are whitened to main directions.

        Paper: nothing. Here (*ours*): at most 48 whitened directions of the small network, because
        a covariance of its 192 features needs more images than a table of small networks has;
        Inception's and CLIP's stay as they are.

        Args:
            raw: Of the photographs.
            network: Which features.
            num_fake: Images of a method.
        """
        size = min(SUBSET_SIZE, len(raw), num_fake)
        if network != "small":
            return cls(raw, None, None, size)
        count = min(NUM_DIRECTIONS, max(1, len(raw) // PHOTOGRAPHS_PER_DIRECTION))
        mean, directions = raw.mean(dim=0), main_directions(raw, count)
        return cls((raw - mean) @ directions, mean, directions, size)

    def project(self, raw: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        if self.mean is None or self.directions is None:
            return raw
        return (raw - self.mean) @ self.directions

    def distances(self, raw: Float[Tensor, "n d"], seed: int) -> tuple[float, float]:
        """Return (KID, FID) of a method's images; 0 is the photographs' own distribution."""
        fake = self.project(raw)
        # KID draws its subsets from torch's global generator; warnings are of the memory it takes
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            kid = KernelInceptionDistance(
                PrecomputedFeatures(fake.shape[1]),
                NUM_SUBSETS,
                self.subset_size,
                DEGREE,
                None,
                COEF,
            ).set_dtype(torch.float64)
            kid.update(self.features, real=True)
            kid.update(fake, real=False)
            return float(kid.compute()[0]), frechet_distance(self.features, fake)

    def facts(self, network: str, source: str) -> dict[str, Any]:
        basis = "" if self.directions is None else ", the photographs' main directions, whitened"
        return {
            "photographs": f"{len(self.features)} of {source}",
            "features": f"{network}, {self.features.shape[1]} numbers an image{basis}",
            "KID": {
                "subsets": NUM_SUBSETS,
                "subset_size": self.subset_size,
                "degree": DEGREE,
                "coef": COEF,
                "gamma": "1 / d",
            },
            "FID": "biased upwards by few images: compare rows, not papers",
        }
