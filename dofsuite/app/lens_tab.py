"""The tab *Lens*: a photograph, its depth, and a lens."""

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from dofsuite.app.events import LIVE, called_by_name, clicked_point, in_words
from dofsuite.app.lens_controls import (
    APERTURES,
    F_NUMBER,
    FILE,
    FOCUS,
    MODEL,
    NEAR_END,
    PLANE,
    LensControls,
)
from dofsuite.app.overlay import depth_overlay, enlarged, stroke_opacity, with_focus_mark
from dofsuite.app.preview import DISPLAY_PX
from dofsuite.app.shot import Shot, animate, default_focal_length_mm, develop, look
from dofsuite.app.workspace import FAR, NEAR, Workspace, open_photo
from dofsuite.images import to_pil
from dofsuite.optics import Aperture
from dofsuite.photography import DepthEstimator

Values = dict[Any, Any]
# A default of this class is how Gradio is asked for a progress bar.
PROGRESS = gr.Progress()


class LensTab:
    """The tab's state and what its controls do.

    Args:
        estimate: The depth model.
        example: The photograph that the page opens with.
        folder: Where saved files are put for the browser to fetch.
    """

    def __init__(self, estimate: DepthEstimator, example: Workspace, folder: Path) -> None:
        self.estimate, self.example = estimate, example
        self.folder = folder
        # What a visitor has; None is the example
        self.workspace = gr.State()
        self.focus, self.plane = gr.State(), gr.State()
        start = Shot(focus=example.focus)
        sharp, image = to_pil(example.preview.sharp_srgb), look(example, start)
        marked = to_pil(with_focus_mark(enlarged(image, DISPLAY_PX), start.focus))
        overlay = overlay_of(example)
        self.controls = LensControls(marked, (sharp, to_pil(image)), overlay, example.depth_source)
        self._connect()

    def _connect(self) -> None:
        c = self.controls
        shot: set[Any] = {self.workspace, self.focus, *c.of_the_shot}
        pictures = [c.picture, c.compare]
        for control in c.of_the_shot:
            control.input(in_words(self.show), shot, pictures, **LIVE)
        c.blur_by.input(self.show_camera, {self.workspace, c.blur_by}, [c.bokeh, c.camera], **LIVE)

        # Events that change the photograph, its depth or the focus, and then show it
        everything: set[Any] = {*shot, self.plane, c.click_sets, c.nearness, c.brush_share}
        everything |= {c.photo_file, c.depth_file, c.kind, c.source}
        depth = [self.workspace, c.sheet, c.depth_note, c.distance]
        fresh = [c.source, c.click_sets, c.map_row, c.focal, self.focus, self.plane, c.photo_file]
        events = (
            (c.photo_file.upload, self.open, [*depth, *fresh]),
            (c.source.input, self.replace_depth, [*depth, c.click_sets, c.map_row]),
            (c.depth_file.upload, self.read_depth_file, depth),
            (c.sheet.input, self.paint, depth),
            (c.undo.click, self.undo, depth),
            (c.picture.select, self.click, [*depth, self.focus, self.plane]),
        )
        for event, act, outputs in events:
            changed = event(in_words(act), everything, outputs, show_progress="hidden")
            changed.success(in_words(self.show), shot, pictures, show_progress="hidden")
            if event == c.photo_file.upload:
                changed.failure(lambda: None, None, c.photo_file)

        c.brush_share.release(lambda share: gr.HTML(brush_share=share), c.brush_share, c.sheet)

        # What is saved
        c.develop.click(in_words(self.save), shot, c.saved)
        c.animate.click(in_words(self.save_animation), {*shot, c.sweep, c.format}, c.saved)

    def workspace_in(self, values: Values) -> Workspace:
        return values[self.workspace] or self.example

    def shot_in(self, values: Values) -> Shot:
        c = self.controls
        return Shot(
            focus=values[self.focus] or self.workspace_in(values).focus,
            bokeh_level=values[c.bokeh],
            f_number=values[c.f_number] if values[c.blur_by] == F_NUMBER else None,
            focal_length_mm=values[c.focal],
            focus_m=values[c.distance],
            aperture=Aperture(APERTURES[values[c.blades]], cat_eye=values[c.cat_eye]),
        )

    # --- what is shown ---

    def show(self, values: Values) -> tuple[Any, Any]:
        workspace, shot = self.workspace_in(values), self.shot_in(values)
        image = look(workspace, shot, values[self.controls.mark])
        marked = with_focus_mark(enlarged(image, DISPLAY_PX), shot.focus)
        return to_pil(marked), (to_pil(workspace.preview.sharp_srgb), to_pil(image))

    def show_camera(self, values: Values) -> tuple[Any, Any]:
        is_camera = values[self.controls.blur_by] == F_NUMBER
        return gr.update(visible=not is_camera), gr.update(visible=is_camera)

    def changed(self, workspace: Workspace) -> list[Any]:
        """The outputs that every change of the depth has."""
        is_relative = workspace.depth.inverse_range_per_m is None
        overlay, distance = overlay_of(workspace), gr.update(visible=is_relative)
        return [workspace, overlay, workspace.depth_source, distance]

    # --- what changes ---

    def open(self, values: Values) -> list[Any]:
        # Read, then set the controls that belong to a photograph
        path = Path(values[self.controls.photo_file])
        with called_by_name(path):
            workspace = open_photo(path, self.estimate)
        source = gr.update(value=MODEL if workspace.is_estimated else PLANE)
        click_sets = gr.update(value=FOCUS, visible=not workspace.is_estimated)
        focal = gr.update(value=default_focal_length_mm(workspace))
        fresh = [source, click_sets, gr.update(visible=False), focal]
        # The field is empty again, for the next photograph
        field = gr.File(value=None, label=path.name)
        return [*self.changed(workspace), *fresh, workspace.focus, (NEAR, FAR), field]

    def replace_depth(self, values: Values) -> list[Any]:
        workspace, source = self.workspace_in(values), values[self.controls.source]
        # The file comes by a button of its own
        if source == PLANE:
            workspace = workspace.with_plane(*(values[self.plane] or (NEAR, FAR)))
        elif source == MODEL:
            workspace = workspace.with_estimate(self.estimate)
        click_sets = gr.update(visible=source == PLANE, value=FOCUS)
        return [*self.changed(workspace), click_sets, gr.update(visible=source == FILE)]

    def read_depth_file(self, values: Values) -> list[Any]:
        path = Path(values[self.controls.depth_file])
        with called_by_name(path):
            workspace = self.workspace_in(values).with_depth_file(path, values[self.controls.kind])
        return self.changed(workspace)

    def paint(self, values: Values, event: gr.EventData) -> list[Any]:
        c, workspace = self.controls, self.workspace_in(values)
        image = workspace.preview.sharp_srgb
        opacity = stroke_opacity(event.points, values[c.brush_share], *image.shape[-2:])
        return self.changed(workspace.with_strokes(opacity, values[c.nearness]))

    def undo(self, values: Values) -> list[Any]:
        return self.changed(self.workspace_in(values).without_strokes())

    def click(self, values: Values, event: gr.SelectData) -> list[Any]:
        # The focus, or an end of the plane
        workspace, sets = self.workspace_in(values), values[self.controls.click_sets]
        point = clicked_point(event, enlarged(workspace.preview.sharp_srgb, DISPLAY_PX))
        focus, (near, far) = values[self.focus], values[self.plane] or (NEAR, FAR)
        if sets == FOCUS:
            return [*[gr.skip()] * 4, point, (near, far)]
        near, far = (point, far) if sets == NEAR_END else (near, point)
        return [*self.changed(workspace.with_plane(near, far)), focus, (near, far)]

    # --- what is saved ---

    def save(self, values: Values, progress: gr.Progress = PROGRESS) -> Any:
        def on_tile(done: int, total: int) -> None:
            progress((done, total), desc="Full size", unit="tiles")

        progress((0, 1), desc="Full size")
        workspace = self.workspace_in(values)
        path = develop(workspace, self.shot_in(values), self.folder_for_one(), on_tile)
        return gr.update(value=str(path), visible=True)

    def save_animation(self, values: Values, progress: gr.Progress = PROGRESS) -> Any:
        c = self.controls
        workspace, shot = self.workspace_in(values), self.shot_in(values)
        progress((0, 1), desc="Animation")
        how = (values[c.sweep], values[c.format], values[c.mark])
        path = animate(workspace, shot, *how, self.folder_for_one())
        return gr.update(value=str(path), visible=True)

    def folder_for_one(self) -> Path:
        """An empty folder, so that two files of one name do not meet."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def overlay_of(workspace: Workspace) -> str:
    """The depth in color as a data URL."""
    image, file = workspace.preview.sharp_srgb, io.BytesIO()
    overlay = depth_overlay(image, workspace.depth.disparity[0], DISPLAY_PX)
    to_pil(enlarged(overlay, DISPLAY_PX)).save(file, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
