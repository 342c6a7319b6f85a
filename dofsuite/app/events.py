"""What every tab's events share: errors in words, and clicked points."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from dofsuite.errors import UserError

LIVE: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}


def in_words(act: Callable[..., Any]) -> Callable[..., Any]:
    """Show a `UserError` of an event on the page."""

    @wraps(act)
    def acted(*args: Any, **kwargs: Any) -> Any:
        try:
            return act(*args, **kwargs)
        except UserError as error:
            raise gr.Error(str(error), 20, title="Sorry", print_exception=False) from error

    return acted


@contextmanager
def called_by_name(path: Path) -> Iterator[None]:
    """In a `UserError`, call an uploaded file by its name, without the server's folders."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error


def clicked_point(event: gr.SelectData, image: Tensor) -> tuple[float, float]:
    """The clicked place as fractions of width and height of [3, h, w].

    Gradio gives it in pixels from the picture's corner, rounded.
    """
    height, width = image.shape[-2:]
    x, y = event.index
    return min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)
