"""The networks that curation asks, each loaded when the first image needs it.

Images are `[3, h, w]` display values in [0, 1], upright, at most `REDUCED_PX` on the long side, and
judged one at a time, so that an answer does not depend on its neighbors.
"""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from dofsuite.curation.choice import NO_NETWORK, PHOTOGRAPH_QUESTION, Choice
from dofsuite.errors import UserError
from dofsuite.evaluation.job import default_device

ANSWER_TOKENS, CAPTION_TOKENS = 8, 60


class Network(Protocol):
    """What answers one question about images."""

    def __call__(self, image: Tensor) -> str:
        """Return the answer: for `blur` one of `BLUR_LABELS`, else a text."""


def load_blur(path: str) -> Network:
    from dofsuite.backbones import SmallBlur
    from dofsuite.backbones.perception.blur import VERDICTS, verdict_probabilities

    if path == NO_NETWORK:
        raise UserError(
            "--blur-classifier: none: some images have no recorded answer; name a classifier, or "
            "leave the rule out (--without blur)."
        )
    device = default_device()
    try:
        classifier: Any = SmallBlur(path).load().to(device)
    except UserError as error:
        raise UserError(f"--blur-classifier: {error}") from error

    # The likeliest verdict, of its kinds together
    def verdict(image: Tensor) -> str:
        kinds = classifier(image[None].to(device))
        return VERDICTS[int(verdict_probabilities(kinds).argmax())]

    return verdict


def load_photograph(path: str) -> Network:
    return _language_model(path, PHOTOGRAPH_QUESTION, ANSWER_TOKENS, "--vlm")


def load_caption(path: str) -> Network:
    return _language_model(path, None, CAPTION_TOKENS, "--captioner")


# A question's loader; each is given the path that was chosen.
LOADERS: dict[str, Callable[[str], Network]] = {
    "blur": load_blur,
    "photograph": load_photograph,
    "caption": load_caption,
}


def load_network(question: str, choice: Choice) -> Network:
    """Load the network that answers a question.

    Raises:
        UserError: It cannot be loaded, or none was chosen.
    """
    return LOADERS[question](getattr(choice, question))


def _language_model(path: str, prompt: str | None, tokens: int, flag: str) -> Network:
    from dofsuite.backbones import Captioner

    if path == NO_NETWORK:
        raise UserError(
            f"{flag}: {path}: some images have no recorded answer; name a model, or leave the rule "
            "out (--without photograph)."
        )
    try:
        described = Captioner(path, prompt=prompt, longest_tokens=tokens)
        writer: Any = described.load().to(default_device())
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error
    return writer.caption
