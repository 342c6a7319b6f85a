"""The tab *Text to image*: a prompt makes a scene once; the camera photographs it live."""

from typing import Any

import gradio as gr

from dofsuite.app.events import LIVE, clicked_point, in_words
from dofsuite.app.lens_controls import PICTURE, PLAIN
from dofsuite.app.lens_tab import Values
from dofsuite.app.overlay import enlarged, with_focus_mark
from dofsuite.app.scene_shot import SCREEN_PX, Studio, make_scene
from dofsuite.errors import UserError
from dofsuite.images import to_pil
from dofsuite.text2image import Text2ImagePipeline

F_NUMBERS = (1.2, 1.8, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0)
FOCAL_LENGTH_MM = 85


class Text2ImageTab:
    """The tab's components and what they do.

    Args:
        pipe: The generator with its lens.
    """

    def __init__(self, pipe: Text2ImagePipeline) -> None:
        self.pipe = pipe
        self.studio = gr.State()
        with gr.Row(equal_height=False):
            with gr.Column(scale=7, min_width=480), gr.Tabs():
                with gr.Tab("Click to focus"):
                    self.picture = gr.Image(
                        interactive=False,
                        elem_id="scene",
                        **PICTURE,
                    )
                with gr.Tab("All in focus | photograph"):
                    self.compare = gr.ImageSlider(
                        interactive=False, elem_id="scene_compare", max_height=720, **PICTURE
                    )
            with gr.Column(scale=3, min_width=320):
                self.prompt = gr.Textbox(
                    "a red disc on the left in front of grass",
                    label="Scene",
                    lines=2,
                    elem_id="prompt",
                )
                self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                self.make = gr.Button("Make the scene", variant="primary", elem_id="make")
                with gr.Group():
                    self.f_number = gr.Radio(
                        [(f"f/{number:g}", number) for number in F_NUMBERS],
                        value=1.8,
                        label="f-number",
                        elem_id="scene_f_number",
                    )
                    self.focal = gr.Slider(
                        *(20, 300, FOCAL_LENGTH_MM),
                        step=1,
                        label="Focal length, mm",
                        elem_id="scene_focal",
                        **PLAIN,
                    )
                    self.mark = gr.Checkbox(False, label="Tint what is in focus", elem_id="band")
        self._connect()

    def _connect(self) -> None:
        camera: list[Any] = [self.f_number, self.focal, self.mark]
        inputs: set[Any] = {self.studio, *camera}
        pictures = [self.picture, self.compare]
        # The network, once a scene
        makes: dict[str, Any] = {"inputs": {self.prompt, self.seed}, "outputs": self.studio}
        for event in (self.make.click, self.prompt.submit):
            generated = event(in_words(self.generate), **makes, show_progress_on=self.picture)
            generated.success(in_words(self.show), inputs, pictures, show_progress="hidden")
        # The lens alone
        for control in camera:
            control.input(in_words(self.show), inputs, pictures, **LIVE)
        clicked = self.picture.select(
            in_words(self.click), {self.studio}, self.studio, show_progress="hidden"
        )
        clicked.success(in_words(self.show), inputs, pictures, show_progress="hidden")

    def generate(self, values: Values) -> Studio:
        return make_scene(self.pipe, values[self.prompt], int(values[self.seed] or 0))

    def click(self, values: Values, event: gr.SelectData) -> Studio:
        studio: Studio = values[self.studio]
        return studio.focused_at(
            clicked_point(event, enlarged(studio.scene.image_srgb[0].cpu(), SCREEN_PX))
        )

    def show(self, values: Values) -> tuple[Any, Any]:
        studio: Studio | None = values[self.studio]
        if studio is None:
            raise UserError("There is no scene yet: say what to show, then make it.")
        camera = (values[self.f_number], values[self.focal])
        image = studio.look(*camera, values[self.mark])
        marked = image if studio.focus is None else with_focus_mark(image, studio.focus)
        scene = enlarged(studio.scene.image_srgb[0].cpu().clamp(0, 1), SCREEN_PX)
        return to_pil(marked), (to_pil(scene), to_pil(image))
