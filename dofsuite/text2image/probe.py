"""The control probe of a text-to-image run: the same prompts at every aperture and focus distance.

An aperture sweep should lose blur with rising f-number (Blur Monotonicity) and nothing else
(Content Consistency). With a lens the scene is made once; without one (the EXIF-conditioned
baseline) every aperture is a generation of its own from the same noise. A generator without lens
and EXIF makes one image per prompt, of which nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

from dofsuite.data import Batch
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter, is_color_segmenter
from dofsuite.files import write_json
from dofsuite.metrics import BlurMonotonicity, ContentConsistency
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from dofsuite.text2image.scene import Scene
from dofsuite.text2image.scene_sampler import SCORE_TIMES, SceneSampler, first_scenes
from dofsuite.training import check_not_diverged, write_sheet
from dofsuite.training.sample_sheet import log_sheet
from dofsuite.training.validation import compute_all, num_scenes_on_rank

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from dofsuite.backbones.perception.segmentation import Segmentation

# The paper's sweep (*stated*).
F_NUMBERS = (1.8, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0)
# Quantiles of a scene's depths on which the focus sweep focuses.
FOCUS_SHARES = (0.02, 0.25, 0.5, 0.75, 0.98)


@dataclass(frozen=True)
class Probe:
    """What is measured at every validation."""

    f_numbers: tuple[float, ...] = F_NUMBERS
    """The aperture sweep."""
    scenes: int = 25
    """Prompts (*stated*: 25)."""
    sheet_scenes: int = 4
    """Prompts on the sample sheets; 0 writes none."""
    sheet_scale: int = 2
    """Magnification of the sheets' images."""
    segmenter: str | None = None
    """Segmenter of Content Consistency: `colors` for the synthetic scenes, whose objects have named
    colors; a hub id or folder of a semantic segmenter (see `SemanticSegmenter`) for photographs;
    null leaves the number out."""

    def __post_init__(self) -> None:
        if self.scenes < 1:
            raise ValueError(f"scenes: at least one is needed, not {self.scenes}")
        is_color_segmenter(self.segmenter)


def load_segmenter(choice: str | None) -> ColorSegmenter | Segmentation | None:
    """Load what `Probe.segmenter` names, on the CPU.

    Raises:
        UserError: It cannot be downloaded, or is no semantic segmenter.
    """
    if choice is None or is_color_segmenter(choice):
        return ColorSegmenter() if choice else None
    from dofsuite.backbones import SemanticSegmenter  # which loads transformers

    return SemanticSegmenter(choice).load()


class ProbeRun:
    """One pass of the probe over held-out prompts, by one of several ranks."""

    def __init__(
        self,
        probe: Probe,
        sampler: SceneSampler,
        segmenter: ColorSegmenter | Segmentation | None = None,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        self.probe, self.sampler = probe, sampler
        self.has_camera = sampler.has_camera
        self.scenes_left = num_scenes_on_rank(probe.scenes, rank, world_size)
        self.scenes_seen = 0
        metrics: dict[str, nn.Module] = {"scenes": SumMetric()}
        if self.has_camera:
            for mode in ("ac", "paper"):
                metrics[f"blur_monotonicity_{mode}"] = BlurMonotonicity(probe.f_numbers, mode=mode)
            if segmenter is not None:
                metrics["content_consistency"] = ContentConsistency(
                    segmenter, top_k=segmenter.top_k
                )
        device = sampler.networks.alphas_cumprod.device
        self.metrics: Any = nn.ModuleDict(metrics).to(device)
        self.apertures: list[list[Tensor]] = []
        self.foci: list[list[Tensor]] = []
        self.scores: list[list[Tensor]] = []
        self.score_titles: list[str] = []
        self.captions: list[str] = []

    @torch.no_grad()
    def update(self, batch: Batch) -> None:
        kept = min(self.scenes_left, len(batch.key))
        if kept <= 0:
            return
        batch = Batch._make(field[:kept] for field in batch)
        self.scenes_left -= kept

        # Aperture sweeps are measured; of the first scenes the sheets keep both sweeps.
        sampler, scene = self.sampler, None
        if sampler.lens is not None:
            latents = [sampler.latents(batch, Conditioning.of(batch))]
            scene = sampler.scene(batch, latents[0])
            images = self.aperture_sweep(batch, scene)
        else:
            latents = self.sweep_latents(batch)
            images = self.decoded_sweep(latents)
        sweep = torch.stack(images, dim=1)
        for name, metric in self.metrics.items():
            metric.update(kept if name == "scenes" else sweep)
        room = max(0, self.probe.sheet_scenes - len(self.captions))
        self.apertures += [list(images) for images in sweep[:room]]
        self.captions += batch.caption[:room]
        if room and sampler.name == "generator":
            shown = Batch._make(field[:room] for field in batch)
            self.keep_scores(shown, latents[-1][:room], scene)
        if scene is not None:
            foci = torch.stack(self.focus_sweep(batch, scene), dim=1)
            self.foci += [list(images) for images in foci[:room]]

    def keep_scores(self, batch: Batch, x: Tensor, scene: Scene | None) -> None:
        """Keep what both scores make of the samples, and with a lens of their photographs too.

        Samples at the smallest aperture, as Deep ones are; photographs at the widest.
        """
        sampler = self.sampler
        narrow, wide = (_at_f_number(batch, pick(self.probe.f_numbers)) for pick in (max, min))
        rows = torch.stack(sampler.scores(x, batch, narrow), dim=1)
        self.scores += [list(images) for images in rows]
        self.score_titles += batch.caption
        if scene is not None:
            x = sampler.networks.encode(sampler.photograph(first_scenes(scene, len(x)), wide))
            rows = torch.stack(sampler.scores(x, batch, wide), dim=1)
            self.scores += [list(images) for images in rows]
            self.score_titles += [f"{caption} (through the lens)" for caption in batch.caption]

    def aperture_sweep(self, batch: Batch, scene: Scene | None) -> list[Tensor]:
        """Return one batch of images for each f-number; without a camera, one batch."""
        if scene is None:
            return self.decoded_sweep(self.sweep_latents(batch))
        conds = [_at_f_number(batch, f_number) for f_number in self.probe.f_numbers]
        return [self.sampler.photograph(scene, cond) for cond in conds]

    def sweep_latents(self, batch: Batch) -> list[Tensor]:
        """Sample the aperture sweep of a generator without a lens."""
        f_numbers = self.probe.f_numbers if self.has_camera else self.probe.f_numbers[:1]
        conds = [_at_f_number(batch, f_number) for f_number in f_numbers]
        return [self.sampler.latents(batch, cond) for cond in conds]

    def decoded_sweep(self, latents: list[Tensor]) -> list[Tensor]:
        images = [self.sampler.decoded(latent) for latent in latents]
        check_not_diverged(images)
        return images

    def focus_sweep(self, batch: Batch, scene: Scene) -> list[Tensor]:
        """Return one batch of images for each quantile of the depths, at the widest aperture."""
        assert scene.depth is not None
        cond = _at_f_number(batch, min(self.probe.f_numbers))
        depths = scene.depth.flatten(1)
        distances = depths.quantile(depths.new_tensor(FOCUS_SHARES), dim=1)  # [quantiles, b]
        return [
            self.sampler.photograph(replace(scene, focus_distance=distance), cond)
            for distance in distances
        ]

    def values(self) -> dict[str, float]:
        """Return the numbers over all ranks. Collective: must be called on all ranks."""
        values = compute_all(self.metrics)
        self.scenes_seen = int(values.pop("scenes"))
        if self.has_camera:
            values["ties_ac"] = float(self.metrics["blur_monotonicity_ac"].ties())
        return values

    def end(self) -> None:
        # Take the metrics, and a segmenter's network with them, off the device.
        self.metrics.cpu()

    def write(
        self, folder: Path, step: int, values: dict[str, float], loggers: Sequence[Logger] = ()
    ) -> None:
        """Write `metrics.json`, with the count of scenes of all ranks, and the sample sheets.

        Loggers that hold images are given the sheets too.
        """
        # The numbers
        f_numbers = list(self.probe.f_numbers) if self.has_camera else []
        metrics = {"step": step, "probe": values, "f_numbers": f_numbers}
        write_json(folder / "metrics.json", metrics | {"scenes": self.scenes_seen})

        # The sheets: rows, titles of columns and of rows
        scores = [f"{name} score, t = {t}" for t in SCORE_TIMES for name in ("real", "fake")]
        sheets = {
            "apertures": (
                self.apertures,
                [f"f/{number:g}" for number in f_numbers] or ["generated"],
                self.captions,
            ),
            "focus": (
                self.foci,
                [f"focus at {share:.0%} of depth" for share in FOCUS_SHARES],
                self.captions,
            ),
            "scores": (self.scores, ["x", *scores], self.score_titles),
        }
        for name, (rows, titles, captions) in sheets.items():
            if rows:
                path = folder / "sheets" / f"{name}-{step:08d}.png"
                write_sheet(path, rows, titles, captions, self.probe.sheet_scale)
                log_sheet(loggers, f"sheets/{name}", path, step)


def _at_f_number(batch: Batch, f_number: float) -> Conditioning:
    return Conditioning.of(batch)._replace(f_number=torch.full_like(batch.f_number, f_number))
