"""A generated scene, photographed again and again by the lens of its pipeline."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from dofsuite.app.overlay import enlarged
from dofsuite.errors import UserError
from dofsuite.photography.animation import mark_in_focus
from dofsuite.text2image import Text2ImagePipeline
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.scene import Scene

# Small models' images are enlarged for the screen.
SCREEN_PX = 640


@dataclass(frozen=True)
class Studio:
    """One scene, and where it is focused."""

    pipe: Text2ImagePipeline
    scene: Scene
    focus: tuple[float, float] | None = None
    """(x, y), fractions of width and height; None: where the focus predictor looks."""

    @property
    def focus_depth(self) -> float:
        """Depth in focus on the depth model's scale."""
        assert self.scene.depth is not None
        assert self.scene.focus_distance is not None
        if self.focus is None:
            return float(self.scene.focus_distance[0])
        height, width = self.scene.depth.shape[-2:]
        column = min(int(self.focus[0] * width), width - 1)
        row = min(int(self.focus[1] * height), height - 1)
        return float(self.scene.depth[0, 0, row, column])

    def focused_at(self, point: tuple[float, float]) -> "Studio":
        return replace(self, focus=point)

    def photograph(self, f_number: float, focal_length_mm: float) -> Tensor:
        """Photograph the scene: display values [3, h, w]; no network is called."""
        images = self.pipe.photograph(
            self.scene, f_number, focal_length_mm, self.focus_depth, output_type="pt"
        )
        return cast(Tensor, images)[0]

    def radius_px(self, f_number: float, focal_length_mm: float) -> Tensor:
        """Signed blur radius [1, h, w] of that photograph."""
        scene, lens = self.scene, self.pipe.lens
        assert lens is not None
        assert scene.depth is not None
        assert scene.scale_mm is not None
        exif = Exif.checked(f_number, focal_length_mm)
        width_px = lens.frame_width_px(*scene.image_srgb.shape[-2:])
        focus = torch.tensor([self.focus_depth], device=scene.depth.device)
        exif = Exif(*(number.to(focus.device) for number in exif))
        return lens.radius_px(scene.depth, focus, scene.scale_mm, exif, width_px)[0]

    def look(self, f_number: float, focal_length_mm: float, is_focus_marked: bool) -> Tensor:
        """The photograph on the screen, with its in-focus band on request."""
        image = self.photograph(f_number, focal_length_mm)
        if is_focus_marked:
            image = mark_in_focus(image, self.radius_px(f_number, focal_length_mm))
        return enlarged(image.cpu(), SCREEN_PX)


def make_scene(pipe: Text2ImagePipeline, prompt: str, seed: int) -> Studio:
    """Generate a scene.

    Raises:
        UserError: The prompt is empty.
    """
    if not prompt.strip():
        raise UserError("Say what to show.")
    return Studio(pipe, pipe(prompt, seed=seed, output_type="pt"))
