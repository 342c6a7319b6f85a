"""A photograph's depth: from a file, from a depth model, or a plane drawn by hand.

Both lens models are affine in disparity, so depth is one map in [0, 1] (0 far, 1 near) and, where
it is metric, the two distances at which the map is 0 and 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.data.decode import DECODERS, disparity_from_depth_map
from dofsuite.depth_options import DepthKind
from dofsuite.errors import UserError
from dofsuite.files import read_bytes
from dofsuite.images import minmax_normalize
from dofsuite.photography.depth_edges import snap_edges

UNIT_M = {"meters": 1.0, "millimeters": 0.001}
ASPECT_TOLERANCE = 0.01
# Share of the long side over which the disparity at a point is the median.
FOCUS_WINDOW = 0.005


@dataclass(frozen=True)
class SceneDepth:
    """Disparity [1, 1, h, w] in [0, 1], and the inverse distances it stands for, if known."""

    disparity: Tensor
    inverse_range_per_m: tuple[float, float] | None = None
    """1 / distance in meters where disparity is 0 and where it is 1; None: relative."""

    def at(self, point: tuple[float, float]) -> float:
        """The disparity at (x, y), fractions of width and height: the median around it."""
        height, width = self.disparity.shape[-2:]
        column = min(int(point[0] * width), width - 1)
        row = min(int(point[1] * height), height - 1)
        reach = int(FOCUS_WINDOW * max(height, width))
        window = self.disparity[
            ..., max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
        ]
        return float(window.median())

    def meters(self) -> Tensor:
        """Distance [1, 1, h, w] in meters; the scale must be known."""
        return self.meters_at(self.disparity)

    def meters_at(self, disparity: Tensor) -> Tensor:
        """Distance of disparities of any shape in meters, infinite included."""
        assert self.inverse_range_per_m is not None
        far_per_m, near_per_m = self.inverse_range_per_m
        return 1 / (far_per_m + disparity * (near_per_m - far_per_m))

    def with_hard_edges(self) -> "SceneDepth":
        """Depth without what lies in between on the soft steps of a depth map."""
        return replace(self, disparity=snap_edges(self.disparity))

    def with_focus_at(self, focus_disparity: float, focus_m: float) -> "SceneDepth":
        """Give relative depth a scale: the focal plane's distance, the farthest at infinity."""
        return SceneDepth(self.disparity, (0.0, 1 / (focus_m * focus_disparity)))


def read_depth(path: Path, kind: DepthKind | None, size: tuple[int, int]) -> SceneDepth:
    """Read a depth map, resized if its aspect ratio is the photograph's.

    Args:
        path: A gray PNG, JPEG or WebP with 8 or 16 bits, or .npy.
        kind: `disparity` (larger is nearer), `depth` (larger is farther, unit unknown), `meters` or
            `millimeters`. None: disparity where the file holds whole numbers.
        size: (height, width) of the photograph.

    Raises:
        UserError: The file is no depth map, its kind must be said, or it does not fit.
    """
    extension = f"depth.{path.suffix.lower().lstrip('.')}"
    if extension not in DECODERS:
        raise UserError(f"{path}: --depth: a depth map is a gray PNG, JPEG or WebP, or a .npy.")
    values: np.ndarray = DECODERS[extension](read_bytes(path, "--depth"), str(path))
    if kind is None and (extension == "depth.npy" or (values % 1).any()):
        raise UserError(
            f"{path}: --depth: numbers may mean anything; say --depth-kind meters, millimeters, "
            "depth (larger is farther) or disparity (larger is nearer)."
        )
    if kind in UNIT_M:
        metric = scene_from_meters(values * np.float32(UNIT_M[kind]), str(path))
        return replace(metric, disparity=_fitted(metric.disparity, size, path))
    kind = "disparity" if kind is None else kind
    disparity = disparity_from_depth_map(values, kind, np.shape(values), str(path))
    return SceneDepth(_fitted(torch.from_numpy(disparity)[None, None], size, path))


def scene_from_meters(depth_m: np.ndarray, name: str = "depth_m") -> SceneDepth:
    """Return metric depth [h, w], in meters above 0 (infinite is allowed), with its scale.

    Raises:
        UserError: A value is no distance; the message calls the map `name`.
    """
    disparity = disparity_from_depth_map(depth_m, "depth", np.shape(depth_m), name)
    inverse_range_per_m = (1 / float(depth_m.max()), 1 / float(depth_m.min()))
    return SceneDepth(torch.from_numpy(disparity)[None, None], inverse_range_per_m)


def _fitted(disparity: Tensor, size: tuple[int, int], path: Path) -> Tensor:
    if tuple(disparity.shape[-2:]) == size:
        return disparity
    (map_height, map_width), (height, width) = disparity.shape[-2:], size
    if abs(map_width * height / (map_height * width) - 1) > ASPECT_TOLERANCE:
        raise UserError(
            f"{path}: --depth: the depth map is {map_width}x{map_height} px and the photograph "
            f"{width}x{height} px; their aspect ratios must agree (is one of them turned?)."
        )
    return interpolate(disparity, size, mode="bilinear", antialias=True).clamp(0, 1)


def plane_depth(
    near: tuple[float, float], far: tuple[float, float], size: tuple[int, int]
) -> SceneDepth:
    """A tilted plane: disparity 1 at `near`, 0 at `far`, linear in between, clamped beyond.

    A plane's disparity is linear in the image, and constant across the line between the points.

    Raises:
        UserError: The two points are the same.
    """
    height, width = size
    y = (torch.arange(height) + 0.5)[:, None]
    x = torch.arange(width) + 0.5
    along_x, along_y = (near[0] - far[0]) * width, (near[1] - far[1]) * height
    if (length := along_x**2 + along_y**2) == 0:
        raise UserError("--plane: its two points are the same; give the near and the far one.")
    disparity = ((x - far[0] * width) * along_x + (y - far[1] * height) * along_y) / length
    return SceneDepth(disparity.clamp(0, 1)[None, None].float())


class DepthEstimator:
    """A depth model, loaded when the first photograph needs it, and once."""

    def __init__(self, path: str | None, device: torch.device | None = None) -> None:
        """Name a relative Depth Anything V2: a folder, an id of the hub, or None for the small one.

        Args:
            path: The weights.
            device: Where it runs; None: the GPU if there is one.
        """
        self.path = path
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def model(self) -> Callable[[Tensor], Tensor]:
        from dofsuite.backbones import RelativeDepth

        described = RelativeDepth() if self.path is None else RelativeDepth(self.path)
        try:
            return described.load().to(self.device)
        except UserError as error:
            raise UserError(
                f"--depth auto: {error} Without a model: --depth FILE, or for a lens --depth plane."
            ) from error

    @torch.no_grad()
    def __call__(self, image_srgb: Tensor) -> SceneDepth:
        """Estimate the depth of display values [3, h, w], on the CPU.

        Raises:
            UserError: The model cannot be loaded.
        """
        disparity = self.model(image_srgb[None].to(self.device))
        return SceneDepth(minmax_normalize(disparity.float().cpu()))
