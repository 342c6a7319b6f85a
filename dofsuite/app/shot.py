"""How a photograph is taken, what that looks like, and the files that are saved of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.app.workspace import Workspace
from dofsuite.errors import UserError
from dofsuite.exif import FULL_FRAME_WIDTH_MM
from dofsuite.files import write_bytes
from dofsuite.optics import Aperture
from dofsuite.optics.aperture import ROUND
from dofsuite.photography import SceneDepth, write_photo
from dofsuite.photography.animation import AnimationFormat, encode_animation, mark_in_focus
from dofsuite.photography.camera import camera_for, radius_of
from dofsuite.photography.config import LensConfig
from dofsuite.photography.full_size import OnTile, blurred_photo
from dofsuite.photography.photo_encoding import FORMATS
from dofsuite.photography.photos_config import Point
from dofsuite.photography.sweep import Variant

F_NUMBERS = (1.2, 1.4, 1.8, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0)
DEFAULT_FOCAL_MM = 50.0
REFERENCE_PX = 512
FRAMES = 12
# A focus pull goes from and to these shares of the disparities.
PULLED = (0.02, 0.98)
Sweep = Literal["aperture", "focus"]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Focus, amount of blur and aperture."""

    focus: Point
    """(x, y), fractions of width and height."""
    bokeh_level: float = 12.0
    """Radius in px per unit of disparity where the long side has 512 px."""
    f_number: float | None = None
    """Instead of the bokeh level: a thin lens on a full-frame camera."""
    focal_length_mm: float = DEFAULT_FOCAL_MM
    focus_m: float = 2.0
    """Distance of the point in focus where the depth is relative."""
    aperture: Aperture = ROUND


def default_focal_length_mm(workspace: Workspace) -> float:
    """The 35-mm equivalent of EXIF's focal length, or 50."""
    config = LensConfig(photos=(), focus=((0.5, 0.5),), f_number=(2.0,), output=Path())
    try:
        camera = camera_for(config, workspace.photo)
    except UserError:  # EXIF does not say
        return DEFAULT_FOCAL_MM
    return camera.focal_length_mm * FULL_FRAME_WIDTH_MM / camera.sensor_width_mm


def radius_map(workspace: Workspace, shot: Shot, depth: SceneDepth) -> tuple[Tensor, str]:
    """Signed radius [1, h, w] in pixels of the full size, as `dofsuite.lens` has it, and in words.

    Args:
        workspace: Says what is at the point in focus.
        shot: Focus and blur.
        depth: Whose radii are wanted, on the workspace's scale.

    Raises:
        UserError: The focus is the farthest point, which gives relative depth no scale.
    """
    focus_disparity = workspace.depth.at(shot.focus)
    config = LensConfig(
        photos=(workspace.path,),
        focus_disparity=(focus_disparity,),
        bokeh=() if shot.f_number else (shot.bokeh_level,),
        f_number=(shot.f_number,) if shot.f_number else (),
        focal_length_mm=shot.focal_length_mm,
        focus_m=shot.focus_m,
        output=workspace.path,
    )
    level = None if shot.f_number else shot.bokeh_level
    variant = Variant(focus_disparity, level, shot.f_number, "")
    return radius_of(config, workspace.photo, depth, variant)


def bokeh_level_of(workspace: Workspace, shot: Shot) -> float:
    """The bokeh level with the shot's blur: radii are affine in disparity for both lenses.

    level = (radius at disparity 1 - radius at disparity 0) * 512 / long side
    """
    if shot.f_number is None:
        return shot.bokeh_level
    ends = SceneDepth(torch.tensor([[[[0.0, 1.0]]]]), workspace.depth.inverse_range_per_m)
    radius_px, _ = radius_map(workspace, shot, ends)
    return float(radius_px[0, 0, 1] - radius_px[0, 0, 0]) * REFERENCE_PX / max(workspace.photo.size)


def look(workspace: Workspace, shot: Shot, is_focus_marked: bool = False) -> Tensor:
    """The photograph on the screen, display values [3, h, w]: one call of the lens.

    Raises:
        UserError: As `radius_map`.
    """
    level, focus_disparity = bokeh_level_of(workspace, shot), workspace.depth.at(shot.focus)
    return _rendered(workspace, level, focus_disparity, shot.aperture, is_focus_marked)


def _rendered(
    workspace: Workspace, level: float, focus_disparity: float, aperture: Aperture, mark: bool
) -> Tensor:
    image = workspace.preview.render(level, focus_disparity, aperture)
    if not mark:
        return image
    radius_px = workspace.preview.radius_px(level, focus_disparity)
    return mark_in_focus(image, interpolate(radius_px, image.shape[-2:], mode="bilinear")[0])


def develop(workspace: Workspace, shot: Shot, folder: Path, on_tile: OnTile) -> Path:
    """Render at full size, as `dofsuite.lens` does, write it into the folder, return the file.

    Raises:
        UserError: As `radius_map`, or the file cannot be written.
    """
    radius_px, _ = radius_map(workspace, shot, workspace.depth)
    picture = blurred_photo(workspace.photo, radius_px, on_tile=on_tile, aperture=shot.aperture)
    extension = workspace.path.suffix if workspace.path.suffix.lower() in FORMATS else ".jpg"
    path = folder / f"{workspace.path.stem}_{_amount(shot)}{extension}"
    write_photo(picture, path)
    return path


def animate(
    workspace: Workspace,
    shot: Shot,
    sweep: Sweep,
    kind: AnimationFormat,
    is_focus_marked: bool,
    folder: Path,
) -> Path:
    """Write a sweep at the size of the screen into the folder, return the file.

    `aperture` closes from the shot's blur to none, `focus` is pulled from the farthest to the
    nearest things; both there and back.

    Raises:
        UserError: As `radius_map`, or the format needs a package that is not installed.
    """
    # Each frame's bokeh level and disparity in focus
    level, focus_disparity = bokeh_level_of(workspace, shot), workspace.depth.at(shot.focus)
    shares = [index / (FRAMES - 1) for index in range(FRAMES)]
    if sweep == "aperture":
        steps = [(level * (1 - share), focus_disparity) for share in shares]
    else:
        far, near = workspace.preview.disparity.quantile(torch.tensor(PULLED)).tolist()
        steps = [(level, far + (near - far) * share) for share in shares]
    # Render and write
    frames = [_rendered(workspace, *step, shot.aperture, is_focus_marked) for step in steps]
    path = folder / f"{workspace.path.stem}_{sweep}_{_amount(shot)}.{kind}"
    write_bytes(path, encode_animation(frames, kind))
    return path


def _amount(shot: Shot) -> str:
    return f"f{shot.f_number:g}" if shot.f_number else f"bokeh{shot.bokeh_level:g}"
