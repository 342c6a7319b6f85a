"""The check for a diverged model, whose outputs are no longer finite."""

from collections.abc import Iterable

from torch import Tensor

from dofsuite.errors import UserError

DIVERGED_HINT = (
    "lower the learning rate (in another folder), or look at what the log says before this step."
)


def check_not_diverged(images: Iterable[Tensor]) -> None:
    """Check that a model's validation images are finite, before a metric fails on them.

    Raises:
        UserError: The model has diverged.
    """
    if not all(bool(image.isfinite().all()) for image in images):
        raise UserError(f"the model's validation images are no longer finite: {DIVERGED_HINT}")
