"""What the page knows of one photograph: its pixels, its depth, and where that comes from."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.app.preview import Preview
from dofsuite.depth_options import DepthKind
from dofsuite.errors import UserError
from dofsuite.images import thumbnail
from dofsuite.photography import (
    DepthEstimator,
    Photo,
    SceneDepth,
    plane_depth,
    read_depth,
    read_photo,
)
from dofsuite.photography.example import EXAMPLE, example_photo
from dofsuite.photography.photos_config import GROUND, Point

NEAR, FAR = GROUND
EXAMPLE_FOCUS, START_FOCUS = (0.45, 0.6), (0.5, 0.6)
# A depth model's input is about this large; more pixels add no detail.
ESTIMATE_PX = 1024
NO_MODEL = (
    "There is no depth model on this computer: start the page once with --download (Depth Anything "
    "V2 Small, 100 MB), or with --depth-model FOLDER."
)


@dataclass(frozen=True)
class Workspace:
    """A photograph and its depth."""

    path: Path
    """Of the photograph; its name and format are those of what is saved."""
    photo: Photo
    depth: SceneDepth
    depth_source: str
    """In words, for the page."""
    focus: Point = START_FOCUS
    """Where it is sharp at first: (x, y), fractions of width and height."""
    is_estimated: bool = False
    """Whether the depth model made the depth."""
    before_stroke: SceneDepth | None = None
    """The depth before the last strokes of the brush."""

    @cached_property
    def preview(self) -> Preview:
        return Preview(self.photo, self.depth.disparity)

    def with_depth(self, depth: SceneDepth, source: str) -> "Workspace":
        return replace(
            self, depth=depth, depth_source=source, is_estimated=False, before_stroke=None
        )

    def with_plane(self, near: Point, far: Point) -> "Workspace":
        """Take a tilted plane for the depth.

        Raises:
            UserError: The two points are the same.
        """
        if near == far:
            raise UserError("The near and the far point are the same; click on another place.")
        return self.with_depth(plane_depth(near, far, self.photo.size), "A tilted plane.")

    def with_depth_file(self, path: Path, kind: DepthKind | None) -> "Workspace":
        """Take a depth map; raises `UserError` where it cannot be read or does not fit."""
        depth = read_depth(path, kind, self.photo.size).with_hard_edges()
        return self.with_depth(depth, f"From {path.name}.")

    def with_estimate(self, estimate: DepthEstimator) -> "Workspace":
        """Let the depth model look.

        Raises:
            UserError: It cannot be loaded.
        """
        image = thumbnail(self.photo.to_srgb(), ESTIMATE_PX)
        try:
            found = estimate(image).disparity
        except UserError as error:
            raise UserError(NO_MODEL) from error
        depth = SceneDepth(interpolate(found, self.photo.size, mode="bilinear")).with_hard_edges()
        estimated = self.with_depth(depth, "Estimated by the depth model.")
        return replace(estimated, is_estimated=True)

    def with_strokes(self, opacity: Tensor, disparity: float) -> "Workspace":
        """Paint over the depth.

        Args:
            opacity: Of the strokes in [0, 1], [h, w] of any size.
            disparity: 0 far to 1 near.
        """
        opacity = interpolate(opacity[None, None].float(), self.photo.size, mode="bilinear")
        painted = torch.lerp(self.depth.disparity, torch.tensor(float(disparity)), opacity)
        depth = replace(self.depth, disparity=painted)
        return replace(self.with_depth(depth, "Corrected by brush."), before_stroke=self.depth)

    def without_strokes(self) -> "Workspace":
        """Take the last strokes back.

        Raises:
            UserError: There are none.
        """
        if self.before_stroke is None:
            raise UserError("There are no strokes to take back.")
        return self.with_depth(self.before_stroke, "The last strokes are taken back.")


def open_photo(path: Path, estimate: DepthEstimator) -> Workspace:
    """Read a photograph, with the depth model's depth if there is a model, else a plane.

    Raises:
        UserError: The photograph cannot be read.
    """
    photo = read_photo(path)
    workspace = Workspace(path, photo, plane_depth(NEAR, FAR, photo.size), "")
    try:
        return workspace.with_estimate(estimate)
    except UserError as error:
        return replace(workspace, depth_source=f"A tilted plane, as the ground. {error}")


@cache
def example_workspace() -> Workspace:
    """Return the embedded photograph with its measured depth.

    Raises:
        UserError: scikit-image, which holds it, is not installed.
    """
    photo, depth = example_photo()
    name = Path(f"{EXAMPLE.name.removeprefix('example:')}.jpg")
    return Workspace(name, photo, depth, "Measured, in meters.", EXAMPLE_FOCUS)
