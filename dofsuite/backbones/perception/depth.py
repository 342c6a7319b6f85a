"""Depth from one image: Depth Anything V2, metric and relative.

Every `load()` gives a frozen `DepthModel`: its weights get no gradient, the image does. Larger is
farther; the unit is meters for the metric models, and "the depth model's scale" where a focus
distance is predicted in it. Metric3D, the paper's, is in `metric3d.py`.
"""

from abc import ABC, abstractmethod
from typing import Literal, Protocol

from torch import Tensor
from transformers import AutoModelForDepthEstimation

from dofsuite.backbones.hub import HubWeights, from_pretrained
from dofsuite.backbones.perception.frozen import DensePrediction, Frozen
from dofsuite.backbones.perception.remote_code import MayRunRemoteCode
from dofsuite.errors import UserError

# Lower bound of every depth.
NEAREST_M = 1e-3


class DepthModel(Protocol):
    """Interface of a depth model, which is an `nn.Module`."""

    def __call__(self, image: Tensor) -> Tensor:
        """Display values [b, 3, h, w] in [0, 1] to depth [b, 1, h, w] > 0, larger is farther."""


class Depth(MayRunRemoteCode, ABC):
    """A light description of a depth model."""

    @abstractmethod
    def load(self) -> Frozen:
        """Build the network on torch's current default device, frozen, in evaluation mode."""


class DepthAnything(HubWeights, Depth):
    """A metric Depth Anything V2 (arXiv 2406.09414) through transformers.

    Paper: Metric3Dv2. Here: this, because it comes with transformers and downloads freely. The
    default is the small outdoor model (*ours*): sets of photographs are full of streets and
    landscapes, and the indoor model's 20 m would put all beyond them on one plane, where neither
    depth nor blur has a gradient. The small one, since of Depth Anything V2 it alone is under
    Apache-2.0 (base and large: CC-BY-NC-4.0).
    """

    def __init__(
        self,
        path: str = "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf",
        revision: str | None = None,
        size_px: int | None = 518,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder that transformers loads; Metric-Indoor predicts up to 20 m,
                Metric-Outdoor up to 80 m.
            revision: Hub revision; null is the newest.
            size_px: Side of the network's input (*stated* by the model: 518); null is the image's
                own.
            dtype: Of the frozen weights.
        """
        super().__init__(path, revision, dtype)
        self.size_px = size_px

    def load(self) -> DensePrediction:
        """Load the model.

        Raises:
            UserError: It cannot be downloaded, or it predicts relative depth (inverse, without a
                unit).
        """
        network = from_pretrained(
            AutoModelForDepthEstimation, self.path, "", self.revision, self.torch_dtype
        )
        if getattr(network.config, "depth_estimation_type", "") != "metric":
            raise UserError(
                f"{self.path}: path: no metric depth model; choose one of the "
                "Depth-Anything-V2-Metric."
            )
        return DensePrediction(network, self.size_px, NEAREST_M)


class RelativeDepth(HubWeights):
    """A light description of a relative Depth Anything V2 (arXiv 2406.09414) through transformers.

    It predicts disparity up to scale and shift, larger is nearer; so it is no `Depth`, whose values
    are larger for what is farther. Paper (DiffCamera): Depth Anything V2, its size not stated.
    Here: the small one, because it alone is under Apache-2.0 (base and large: CC-BY-NC-4.0).
    """

    def __init__(
        self,
        path: str = "depth-anything/Depth-Anything-V2-Small-hf",
        revision: str | None = None,
        size_px: int | None = 518,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder that transformers loads.
            revision: Hub revision; null is the newest.
            size_px: Side of the network's input (*stated* by the model: 518); null is the image's
                own.
            dtype: Of the frozen weights.
        """
        super().__init__(path, revision, dtype)
        self.size_px = size_px

    def load(self) -> DensePrediction:
        """Load the model: display values [b, 3, h, w] in [0, 1] to disparity [b, 1, h, w] >= 0.

        Raises:
            UserError: It cannot be downloaded, or it predicts depth in meters.
        """
        network = from_pretrained(
            AutoModelForDepthEstimation, self.path, "", self.revision, self.torch_dtype
        )
        if getattr(network.config, "depth_estimation_type", "relative") != "relative":
            raise UserError(
                f"{self.path}: path: it predicts meters, not disparity; load it as DepthAnything."
            )
        return DensePrediction(network, self.size_px, smallest=0.0)
