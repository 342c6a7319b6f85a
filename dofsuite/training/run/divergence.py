"""What a run says whose numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from dofsuite.errors import UserError

DIVERGED_MEND = (
    "lower the learning rate (in another folder), or look at what the log says before this step."
)


def check_not_diverged(pictures: Iterable[Tensor]) -> None:
    """Refuse a model's pictures that hold a NaN or an infinity, before a metric does in words of its own.

    Raises:
        UserError: The model has diverged.
    """
    if not all(bool(picture.isfinite().all()) for picture in pictures):
        raise UserError(f"the model's pictures of the probe are no longer finite: {DIVERGED_MEND}")
