"""What every tab's events share: errors in words, clicked points, pictures for the browser."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.images import to_pil

LIVE: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}


def in_words(act: Callable[..., Any]) -> Callable[..., Any]:
    """Show a `UserError` of an event on the page; a file is called by its name, without folders."""

    @wraps(act)
    def acted(*args: Any, **kwargs: Any) -> Any:
        try:
            return act(*args, **kwargs)
        except UserError as error:
            raise gr.Error(str(error), 20, title="Sorry", print_exception=False) from error

    return acted


def clicked_point(event: gr.SelectData, image: Tensor) -> tuple[float, float]:
    """The clicked pixel's center as fractions of width and height of [3, h, w]."""
    height, width = image.shape[-2:]
    x, y = event.index
    return min(max((x + 0.5) / width, 0.0), 1.0), min(max((y + 0.5) / height, 0.0), 1.0)


def on_screen(image: Tensor) -> Image.Image:
    return to_pil(image)
