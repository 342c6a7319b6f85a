"""The scores of an image against reference and target, as far as they can be computed here."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error
from torchmetrics.functional.image import peak_signal_noise_ratio

from dofsuite.errors import UserError
from dofsuite.metrics import ImageEmbedder, clip_image_similarity

# One image, or an image and its target, [1, 3, h, w] each -> a number.
Score = Callable[..., Tensor]


# The networks of the scores; one that cannot be computed is None, and a note says why.
class Scores(NamedTuple):
    embedder: ImageEmbedder | None = None
    lpips: Score | None = None
    clip_iqa: Score | None = None
    # The options of every score, for the report; other options give other rows.
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @torch.no_grad()
    def of(self, preds: Tensor, reference: Tensor, target: Tensor) -> dict[str, float | None]:
        """Score an image [1, 3, h, w] against reference and target, all 8-bit values in [0, 1].

        CLIP-I is against the reference; MAE, PSNR and LPIPS are against the target (*inferred* for
        CLIP-I from the paper's ground truth, which scores .970); CLIP-IQA takes the image alone.
        """
        exact, truth = preds.double(), target.double()
        return {
            "clip_i": float(clip_image_similarity(preds, reference, self.embedder))
            if self.embedder
            else None,
            "mae": float(mean_absolute_error(exact, truth)),
            "psnr": float(peak_signal_noise_ratio(exact, truth, data_range=1.0)),
            "lpips": float(self.lpips(preds, target)) if self.lpips else None,
            "clip_iqa": float(self.clip_iqa(preds)) if self.clip_iqa else None,
        }


def load_scores(
    clip: str,
    lpips: Literal["alex", "vgg", "squeeze", "none"],
    clip_iqa: Literal["clip_iqa", "none"],
) -> Scores:
    """Load the networks of the scores.

    Args:
        clip: Hub id or folder of a CLIP, or `none`.
        lpips: `alex`, `vgg`, `squeeze` or `none`.
        clip_iqa: `clip_iqa` or `none`.

    Raises:
        UserError: The CLIP cannot be loaded. (LPIPS and CLIP-IQA are left out instead, with a
            note.)
    """
    # Networks, each with a note where it is left out
    embedder = None if clip == "none" else load_clip(clip)
    lpips_score, lpips_note = try_load(
        "LPIPS",
        load_lpips,
        lpips,
        'pip install "torchmetrics[image]" (for torch 2.13: torchvision==0.28.0)',
    )
    iqa_score, iqa_note = try_load(
        "CLIP-IQA",
        load_clip_iqa,
        clip_iqa,
        'pip install "torchmetrics[multimodal]" torchvision',
    )
    clip_note = "" if embedder else "CLIP-I: left out, as asked"

    # Their options, for the report
    facts = {
        "CLIP-I": f"against the picture given; {getattr(embedder, 'name', 'left out')}",
        "MAE": "torchmetrics mean_absolute_error, display values in [0, 1], mean over samples",
        "PSNR": "torchmetrics peak_signal_noise_ratio, data_range 1.0, mean over samples in dB",
        "LPIPS": f"torchmetrics, net_type {lpips}, normalize True" if lpips_score else "left out",
        "CLIP-IQA": f"torchmetrics, model {clip_iqa}, prompts ('quality',), data_range 1.0"
        if iqa_score
        else "left out",
    }
    notes = tuple(filter(None, (clip_note, lpips_note, iqa_note)))
    return Scores(embedder, lpips_score, iqa_score, tuple(facts.items()), notes)


def load_clip(path: str) -> ImageEmbedder:
    from dofsuite.backbones import ClipImages

    try:
        return ClipImages(path).load()
    except UserError as error:
        raise UserError(
            f"--clip: {str(error).rstrip('.')}; or give --clip none, which leaves CLIP-I empty."
        ) from error


def load_lpips(network: Literal["alex", "vgg", "squeeze"]) -> Score:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True)
    metric(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64))
    return metric


def load_clip_iqa(model: Literal["clip_iqa"]) -> Score:
    from torchmetrics.multimodal import CLIPImageQualityAssessment

    metric = CLIPImageQualityAssessment(model, 1.0, ("quality",))
    metric(torch.zeros(1, 3, 224, 224))
    return metric


def try_load(
    name: str, load: Callable[[Any], Score], choice: str, install: str
) -> tuple[Score | None, str]:
    # Load a score of torchmetrics and try it; None and a note for `none` and after any error
    if choice == "none":
        return None, f"{name}: left out, as asked"
    try:
        return load(choice), ""
    except Exception as error:  # a missing package, a failed download, versions that do not fit
        sentence = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:160]
        reason = sentence or type(error).__name__
        return None, f"{name}: empty, because it cannot be loaded here ({reason}): {install}"
