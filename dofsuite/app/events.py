"""What every tab's events share: errors in words, and clicked points."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from torch import Tensor

from dofsuite.errors import UserError

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
    """The clicked place as fractions of width and height of [3, h, w].

    Gradio gives it in pixels from the picture's corner, rounded.
    """
    height, width = image.shape[-2:]
    x, y = event.index
    return min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)
