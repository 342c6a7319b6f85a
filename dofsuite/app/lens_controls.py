"""The tab *Lens* as it looks: the picture in three views, and the controls beside it."""

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from dofsuite.app.shot import F_NUMBERS

BOKEH, F_NUMBER = "Bokeh", "f-number"
APERTURES = {"Round": 0, "5": 5, "6": 6, "7": 7, "9": 9}
FOCUS = "the focus"
NEAR_END, FAR_END = "the plane's near end", "the plane's far end"
PLANE, MODEL = "Plane", "Depth model"
FILE = "File"
KINDS = [
    ("larger is nearer", "disparity"),
    ("larger is farther", "depth"),
    ("meters", "meters"),
    ("millimeters", "millimeters"),
]
PICTURE: dict[str, Any] = {"show_label": False, "buttons": [], "height": "min(68vh, 720px)"}
PLAIN: dict[str, Any] = {"buttons": []}
BRUSH = Path(__file__).with_name("brush.js")
BRUSH_SHARE = 0.05
SHEET_HTML = '<div class="sheet"><img src="${value}" draggable="false"><canvas></canvas></div>'
SHEET_CSS = """
display: flex; justify-content: center; align-items: center; height: min(68vh, 720px);
.sheet { position: relative; line-height: 0; }
.sheet img { max-width: 100%; height: auto; max-height: min(68vh, 720px); }
.sheet canvas { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0.7;
  cursor: crosshair; touch-action: none; }
"""
PICTURE_TYPES = [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif"]


class LensControls:
    """Every component of the tab.

    Args:
        picture: What is clicked on.
        pair: The photograph before and after.
        overlay: Its depth in color, as a data URL.
        depth_source: In words.
    """

    def __init__(
        self,
        picture: Image.Image,
        pair: tuple[Image.Image, Image.Image],
        overlay: str,
        depth_source: str,
    ) -> None:
        # The views, and the controls to their right
        with gr.Row(equal_height=False):
            with gr.Column(scale=7, min_width=480), gr.Tabs():
                with gr.Tab("Click to focus"):
                    self.picture = gr.Image(
                        picture, interactive=False, elem_id="picture", **PICTURE
                    )
                    self.click_sets = gr.Radio(
                        [FOCUS, NEAR_END, FAR_END], value=FOCUS, label="A click sets", visible=False
                    )
                with gr.Tab("Before | after", elem_id="compare_tab"):
                    self.compare = gr.ImageSlider(
                        pair, interactive=False, elem_id="compare", max_height=720, **PICTURE
                    )
                with gr.Tab("Depth") as self.depth_view:
                    self._brush(overlay)
            with gr.Column(scale=3, min_width=320):
                self._photograph(depth_source)
                self._lens()
                self._save()

    def _brush(self, overlay: str) -> None:
        self.sheet = gr.HTML(
            overlay,
            html_template=SHEET_HTML,
            css_template=SHEET_CSS,
            js_on_load=BRUSH.read_text(),
            apply_default_css=False,
            elem_id="sheet",
            brush_share=BRUSH_SHARE,
        )
        # The brush
        with gr.Row(equal_height=True):
            self.nearness = gr.Slider(
                *(0, 1, 1),
                step=0.01,
                label="The brush paints: 0 far, 1 near",
                elem_id="nearness",
                scale=4,
                **PLAIN,
            )
            self.brush_share = gr.Slider(
                *(0.01, 0.2, BRUSH_SHARE), step=0.01, label="Brush size", scale=3, **PLAIN
            )
            self.undo = gr.Button("Undo stroke", elem_id="undo", scale=1, min_width=110)

    def _photograph(self, depth_source: str) -> None:
        # The file, and where its depth comes from
        self.photo_file = gr.File(
            label="Your photograph",
            file_types=PICTURE_TYPES,
            height=120,
            elem_id="photo_file",
        )
        self.source = gr.Radio([PLANE, MODEL, FILE], label="Depth", elem_id="source")
        with gr.Row(visible=False) as self.map_row:
            self.kind = gr.Dropdown(KINDS, value="disparity", label="Its numbers")
            self.depth_file = gr.UploadButton("Choose", elem_id="depth_file")
        self.depth_note = gr.Markdown(depth_source, elem_id="depth_note")

    def _lens(self) -> None:
        with gr.Group():
            self.blur_by = gr.Radio([BOKEH, F_NUMBER], value=BOKEH, label="Blur", elem_id="blur_by")
            self.bokeh = gr.Slider(0, 24, 12, step=0.5, label="Bokeh", elem_id="bokeh", **PLAIN)
            with gr.Column(visible=False) as self.camera:
                self.f_number = gr.Radio(
                    [(f"f/{number:g}", number) for number in F_NUMBERS],
                    value=1.4,
                    show_label=False,
                    elem_id="f_number",
                )
                self.focal = gr.Slider(
                    *(20, 200, 85),
                    step=1,
                    label="Focal length, mm (full frame)",
                    elem_id="focal",
                    **PLAIN,
                )
                self.distance = gr.Slider(
                    0.3, 20, 2, step=0.1, label="Distance in focus, m", visible=False, **PLAIN
                )
            # The aperture's shape
            self.blades = gr.Radio(
                list(APERTURES), value="Round", label="Aperture blades", elem_id="blades"
            )
            self.cat_eye = gr.Slider(0, 0.8, 0, step=0.1, label="Cat's eye", **PLAIN)
            self.mark = gr.Checkbox(False, label="Tint what is in focus", elem_id="mark")

    def _save(self) -> None:
        with gr.Group():
            self.develop = gr.Button("Save full size", variant="primary", elem_id="develop")
            # A sweep, and its format
            with gr.Row():
                self.sweep = gr.Dropdown(
                    [("Aperture closes", "aperture"), ("Focus pull", "focus")],
                    value="aperture",
                    show_label=False,
                    container=False,
                    scale=3,
                    min_width=150,
                )
                self.format = gr.Dropdown(
                    ["mp4", "webp", "gif"],
                    value="mp4",
                    show_label=False,
                    container=False,
                    scale=2,
                    min_width=90,
                )
            self.animate = gr.Button("Save animation", elem_id="animate")
        self.saved = gr.File(label="Ready", visible=False, interactive=False, elem_id="saved")

    @property
    def of_the_shot(self) -> list[Any]:
        """Whatever changes the picture while it is dragged or chosen."""
        camera = [self.blur_by, self.bokeh, self.f_number, self.focal, self.distance]
        return [*camera, self.blades, self.cat_eye, self.mark]
