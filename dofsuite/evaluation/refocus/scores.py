"""The scores of one picture against its reference and its true answer, and which of them can be had here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error
from torchmetrics.functional.image import peak_signal_noise_ratio

from dofsuite.errors import UserError
from dofsuite.metrics import ImageEmbedder, clip_image_similarity

LPIPS_INSTALL = 'pip install "torchmetrics[image]" (for torch 2.13: torchvision==0.28.0)'
CLIP_IQA_INSTALL = 'pip install "torchmetrics[multimodal]" torchvision'
EVERY_SCORE = ("clip_i", "mae", "psnr", "lpips", "clip_iqa")

Score = Callable[[Tensor, Tensor], Tensor]


class Scores(NamedTuple):
    """What is scored with what. A score that cannot be had is None, and a note says why."""

    embedder: ImageEmbedder | None = None
    lpips: Score | None = None
    clip_iqa: Callable[[Tensor], Tensor] | None = None
    facts: tuple[tuple[str, str], ...] = ()
    """The options of every score, for the report; rows made with others are not mixed with these."""
    notes: tuple[str, ...] = ()

    @torch.no_grad()
    def of(self, preds: Tensor, reference: Tensor, target: Tensor) -> dict[str, float | None]:
        """Score a picture [1, 3, h, w] against the one given and the true one, all 8-bit display values in [0, 1].

        CLIP-I is against the picture given; MAE, PSNR and LPIPS are against the true answer
        (*inferred* for CLIP-I from the paper's ground truth, which scores .970); CLIP-IQA looks at
        the picture alone.
        """
        return {
            "clip_i": float(clip_image_similarity(preds, reference, self.embedder))
            if self.embedder
            else None,
            "mae": float(mean_absolute_error(preds.double(), target.double())),
            "psnr": float(peak_signal_noise_ratio(preds.double(), target.double(), data_range=1.0)),
            "lpips": float(self.lpips(preds, target)) if self.lpips else None,
            "clip_iqa": float(self.clip_iqa(preds)) if self.clip_iqa else None,
        }


def load_scores(clip: str, lpips: str, clip_iqa: str) -> Scores:
    """Load the networks of the scores.

    Args:
        clip: Hub id or folder of a CLIP, or `none`.
        lpips: `alex`, `vgg`, `squeeze` or `none`.
        clip_iqa: `clip_iqa` or `none`.

    Raises:
        UserError: The CLIP cannot be loaded. (LPIPS and CLIP-IQA are left out instead, with a
            note.)
    """
    embedder = None if clip == "none" else load_clip(clip)
    lpips_score, lpips_note = (
        (None, "LPIPS: left out, as asked") if lpips == "none" else load_lpips(lpips)
    )
    iqa_score, iqa_note = (
        (None, "CLIP-IQA: left out, as asked") if clip_iqa == "none" else load_clip_iqa(clip_iqa)
    )
    facts = {
        "CLIP-I": f"against the picture given; {getattr(embedder, 'name', 'left out')}",
        "MAE": "torchmetrics mean_absolute_error, display values in [0, 1], mean over samples",
        "PSNR": "torchmetrics peak_signal_noise_ratio, data_range 1.0, mean over samples in dB",
        "LPIPS": f"torchmetrics, net_type {lpips}, normalize True" if lpips_score else "left out",
        "CLIP-IQA": f"torchmetrics, model {clip_iqa}, prompts ('quality',), data_range 1.0"
        if iqa_score
        else "left out",
    }
    notes = ["CLIP-I: left out, as asked"] * (embedder is None) + [
        note for note in (lpips_note, iqa_note) if note
    ]
    return Scores(embedder, lpips_score, iqa_score, tuple(facts.items()), tuple(notes))


def load_clip(path: str) -> ImageEmbedder:
    """Load CLIP's image encoder."""
    from dofsuite.backbones import ClipImages

    try:
        return ClipImages(path).load()
    except UserError as error:
        raise UserError(
            f"--clip: {str(error).rstrip('.')}; or give --clip none, which leaves CLIP-I empty."
        ) from error


def load_lpips(network: str) -> tuple[Score | None, str]:
    """Load torchmetrics' LPIPS; None and a note where torchvision or the weights are not there."""

    def load() -> Score:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        metric = LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True)
        return lambda preds, target: metric(preds, target)

    return tried(
        load,
        "LPIPS",
        LPIPS_INSTALL,
        lambda score: score(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)),
    )


def load_clip_iqa(model: str) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """Load torchmetrics' CLIP-IQA; None and a note where piq or the weights are not there."""

    def load() -> Callable[[Tensor], Tensor]:
        from torchmetrics.multimodal import CLIPImageQualityAssessment

        metric = CLIPImageQualityAssessment(
            model_name_or_path=model, prompts=("quality",), data_range=1.0
        )
        return lambda preds: metric(preds)

    return tried(
        load, "CLIP-IQA", CLIP_IQA_INSTALL, lambda score: score(torch.zeros(1, 3, 224, 224))
    )


def tried(
    load: Callable[[], Any], name: str, install: str, probe: Callable[[Any], Any]
) -> tuple[Any, str]:
    """Load a score and ask it once; whatever torchmetrics and the packages below it raise becomes a note."""
    try:
        score = load()
        probe(score)
    except (ModuleNotFoundError, ValueError) as error:
        return (
            None,
            f"{name}: empty, because a package is missing here ({package_of(error)}): {install}",
        )
    except Exception as error:  # a download that failed, or versions that do not fit each other
        return (
            None,
            f"{name}: empty, because it could not be loaded ({first_sentence(error)}): {install}",
        )
    return score, ""


def package_of(error: BaseException) -> str:
    """Return which package an error is about."""
    return next(
        (name for name in ("torchvision", "piq", "transformers") if name in str(error)),
        first_sentence(error),
    )


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error's message."""
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:160] or type(error).__name__
