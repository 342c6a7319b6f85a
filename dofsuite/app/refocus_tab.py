"""The tab *Refocus*: the network's answer to the same click."""

from typing import Any

import gradio as gr

from dofsuite.app.events import clicked_point, in_words
from dofsuite.app.lens_controls import PICTURE, PLAIN
from dofsuite.app.lens_tab import PROGRESS, LensTab, Values
from dofsuite.app.overlay import with_focus_mark
from dofsuite.app.refocusing import refocus
from dofsuite.images import to_pil
from dofsuite.refocus import RefocusPipeline


class RefocusTab:
    """The photograph and the depth of the tab *Lens*, refocused by a network.

    Args:
        pipe: The network.
        lens: The tab that holds them.
    """

    def __init__(self, pipe: RefocusPipeline, lens: LensTab) -> None:
        self.pipe, self.lens = pipe, lens
        self.focus = gr.State(lens.example.focus)
        # The photograph to click on beside the answer
        image = lens.example.preview.sharp_srgb
        marked = to_pil(with_focus_mark(image, lens.example.focus))
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=360):
                gr.Markdown("Click where it should be sharp.")
                self.picture = gr.Image(
                    marked, interactive=False, elem_id="refocus_picture", **PICTURE
                )
            with gr.Column(scale=5, min_width=360):
                gr.Markdown("Before | after")
                self.compare = gr.ImageSlider(
                    interactive=False, elem_id="refocus_compare", max_height=720, **PICTURE
                )
        with gr.Row(equal_height=True):
            self.bokeh = gr.Slider(
                0, 24, 12, step=0.5, label="Bokeh", elem_id="refocus_bokeh", scale=4, **PLAIN
            )
            self.depth = gr.Checkbox(
                pipe.config.uses_depth,
                label="With the depth of the tab Lens",
                interactive=bool(pipe.config.uses_depth),
                scale=2,
            )
            self.start = gr.Button("Refocus", variant="primary", elem_id="refocus_start", scale=1)
        self._connect()

    def _connect(self) -> None:
        inputs: set[Any] = {self.lens.workspace, self.focus, self.bokeh, self.depth}
        answer = in_words(self.answer)
        clicked = self.picture.select(
            in_words(self.click),
            {self.lens.workspace},
            [self.focus, self.picture],
            show_progress="hidden",
        )
        clicked.success(answer, inputs, self.compare)
        self.start.click(answer, inputs, self.compare)
        self.bokeh.release(answer, inputs, self.compare)

    def watch(self, tab: gr.Tab) -> None:
        """Take the photograph of the tab *Lens* over when this tab is opened."""
        tab.select(
            self.take_over, {self.lens.workspace, self.focus}, self.picture, show_progress="hidden"
        )

    def take_over(self, values: Values) -> Any:
        image = self.lens.workspace_in(values).preview.sharp_srgb
        return to_pil(with_focus_mark(image, values[self.focus]))

    def click(self, values: Values, event: gr.SelectData) -> tuple[Any, Any]:
        image = self.lens.workspace_in(values).preview.sharp_srgb
        point = clicked_point(event, image)
        return point, to_pil(with_focus_mark(image, point))

    def answer(self, values: Values, progress: gr.Progress = PROGRESS) -> Any:
        workspace = self.lens.workspace_in(values)

        def on_step(done: int, total: int) -> None:
            progress((done, total), desc="Refocus", unit="steps")

        how = (values[self.focus], values[self.bokeh], values[self.depth])
        before, after = refocus(self.pipe, workspace, *how, on_step)
        return to_pil(before), to_pil(after)
