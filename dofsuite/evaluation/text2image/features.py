"""How far a method's pictures are from photographs: torchmetrics' KID and FID, on features of a network by choice."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from dofsuite.errors import UserError
from dofsuite.images import to_uint8
from dofsuite.text2image.comparison import DIRECTIONS, Features, main_directions

FeatureExtractor = Callable[[Tensor], Tensor]
"""Pictures [n, 3, h, w] in [0, 1] -> features [n, d] in float64."""

NETWORKS = ("auto", "inception", "stand-in", "clip", "none")
"""`inception` needs torch-fidelity and torchvision; `auto` is it where they are, and else `stand-in`."""
SUBSETS, SUBSET_SIZE, DEGREE, COEF = 100, 1000, 3, 1.0
"""Of KID: torchmetrics' defaults, which are the paper's (arXiv 1801.01401); a smaller set is one subset's size."""
PICTURES_A_DIRECTION = 16
"""Photographs that the deviation along a main direction of the stand-in's features is taken from, at least (*ours*)."""


class Inception:
    """FID's own network through torchmetrics, pool layer of 2048 numbers."""

    def __init__(self, device: torch.device) -> None:
        """Load it.

        Raises:
            UserError: Its packages are missing.
        """
        try:
            self.network = FrechetInceptionDistance(feature=2048).inception.to(device)
        except (ModuleNotFoundError, ImportError) as error:
            raise UserError(
                "--features inception: needs packages; pip install torchvision torch-fidelity, or take stand-in."
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Look at 8-bit pictures."""
        return self.network(to_uint8(images)).double()


def chosen(network: str) -> str:
    """Return the network that a choice stands for here."""
    if network != "auto":
        return network
    there = all(importlib.util.find_spec(name) for name in ("torchvision", "torch_fidelity"))
    return "inception" if there else "stand-in"


def load_extractor(
    network: str, embedder: FeatureExtractor | None, device: torch.device
) -> FeatureExtractor | None:
    """Load a feature network; None for `none`.

    Raises:
        UserError: Its packages are missing, or `clip` is asked for without a CLIP.
    """
    if network == "none":
        return None
    if network == "inception":
        return Inception(device)
    if network == "clip":
        if embedder is None:
            raise UserError("--features clip: there is no CLIP; name one with --clip.")
        return lambda images: embedder(images).double()
    look = Features()
    look.network.to(device)
    return look


class PrecomputedFeatures(nn.Module):
    """Hands features to torchmetrics, which asks for a network of pictures."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Return them."""
        return features


@dataclass(frozen=True)
class ReferenceFeatures:
    """The features of the photographs that methods are compared with.

    Attributes:
        features: [m, k].
        mean: [d] that is taken off all pictures' features first, because KID's kernel depends on
            where 0 is.
        directions: [d, k] by which they are turned then.
        size: Pictures in a subset of KID.
    """

    features: Float[Tensor, "m k"]
    mean: Float[Tensor, " d"] | None
    directions: Float[Tensor, "d k"] | None
    size: int

    @classmethod
    def seen(cls, raw: Float[Tensor, "m d"], network: str, num_made: int) -> ReferenceFeatures:
        """Take raw features; those of the stand-in are turned to the photographs' main directions.

        Paper: nothing. Here (*ours*): at most 48 whitened directions of the stand-in, because a
        covariance of its 192 features needs more pictures than a table of small networks has;
        Inception's and CLIP's stay as they are.

        Args:
            raw: Of the photographs.
            network: Which features.
            num_made: Pictures of a method.
        """
        size = min(SUBSET_SIZE, len(raw), num_made)
        if network != "stand-in":
            return cls(raw, None, None, size)
        mean = raw.mean(dim=0)
        directions = main_directions(raw, min(DIRECTIONS, max(1, len(raw) // PICTURES_A_DIRECTION)))
        return cls((raw - mean) @ directions, mean, directions, size)

    def distances(self, raw: Float[Tensor, "n d"], seed: int) -> tuple[float, float]:
        """Return (KID, FID) of a method's pictures; 0 is the photographs' own distribution."""
        made = raw if self.directions is None else (raw - self.mean) @ self.directions
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # of the memory that features take
            torch.manual_seed(seed)  # KID draws its subsets from torch's global generator
            network = PrecomputedFeatures(made.shape[1])
            kid = KernelInceptionDistance(
                network, SUBSETS, self.size, DEGREE, None, COEF
            ).set_dtype(torch.float64)
            fid = FrechetInceptionDistance(network).set_dtype(torch.float64)
            for metric in (kid, fid):
                metric.update(self.features, real=True)
                metric.update(made, real=False)
            return float(kid.compute()[0]), float(fid.compute())

    def facts(self, network: str, source: str) -> dict[str, Any]:
        """Return the options, for the report."""
        return {
            "photographs": f"{len(self.features)} of {source}",
            "features": f"{network}, {self.features.shape[1]} numbers a picture"
            + ("" if self.directions is None else ", the photographs' main directions, whitened"),
            "KID": {
                "subsets": SUBSETS,
                "subset_size": self.size,
                "degree": DEGREE,
                "coef": COEF,
                "gamma": "1 / d",
            },
            "FID": "biased upwards by few pictures: compare rows, not papers",
        }
