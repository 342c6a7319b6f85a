"""What a text-to-image run is measured by: the same prompts at every aperture, and at several distances of focus.

An aperture sweep should lose blur with rising f-number (Blur Monotonicity) and nothing else
(Content Consistency). With a lens the scene is made once; without one (the EXIF baseline) every
aperture is a generation of its own from the same noise. A generator that no camera setting reaches
makes one picture of a prompt, of which nothing is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

from dofsuite.data import Batch
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter, is_color_segmenter
from dofsuite.files import write_json
from dofsuite.metrics import BlurMonotonicity, ContentConsistency
from dofsuite.text2image.dmd2.denoiser import no_gradient
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from dofsuite.text2image.dmd2.sampling import fresh_noise, sample
from dofsuite.training import check_not_diverged, write_sheet
from dofsuite.training.validation import compute_all, num_scenes_on_rank

if TYPE_CHECKING:
    from dofsuite.backbones.perception.segmentation import Segmentation
    from dofsuite.text2image.module import Text2Image
    from dofsuite.text2image.networks import Name

F_NUMBERS = (1.8, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0)
"""The paper's sweep (*stated*)."""
FOCUS_SHARES = (0.02, 0.25, 0.5, 0.75, 0.98)
"""Quantiles of a scene's depths on which the focus sweep focuses."""


@dataclass(frozen=True)
class Probe:
    """What is probed at every validation.

    Attributes:
        f_numbers: The aperture sweep.
        scenes: Prompts (*stated*: 25).
        sheet_scenes: Prompts on the sheets; 0 writes none.
        sheet_scale: Magnification of the sheets' pictures.
        segmenter: What tells contents apart for Content Consistency: `colors` for the embedded
            scenes, whose things have named colors; a hub id or folder of a semantic segmenter (see
            `SemanticSegmenter`) for photographs; null leaves the number out.

    Raises:
        ValueError: on fewer than one scene.
    """

    f_numbers: tuple[float, ...] = F_NUMBERS
    scenes: int = 25
    sheet_scenes: int = 4
    sheet_scale: int = 2
    segmenter: str | None = None

    def __post_init__(self) -> None:
        """Refuse it in the words of the experiment file."""
        if self.scenes < 1:
            raise ValueError(f"scenes: at least one is needed, not {self.scenes}")
        is_color_segmenter(self.segmenter)


class Scene(NamedTuple):
    """What the generator made of prompts, and what the lens knows of it."""

    image: Tensor
    """[b, 3, h, w] display values in [0, 1]."""
    depth: Tensor
    """[b, 1, h, w]."""
    focus_distance: Tensor
    """[b]."""
    scale_mm: Tensor
    """[b]."""


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
        module: Text2Image,
        segmenter: ColorSegmenter | Segmentation | None = None,
        ranks: int = 1,
        rank: int = 0,
    ) -> None:
        self.probe, self.module = probe, module
        self.has_camera = module.lens is not None or generating(module) in module.exif
        self.scenes_left, self.scenes_seen = num_scenes_on_rank(probe.scenes, rank, ranks), 0
        metrics: dict[str, nn.Module] = {"scenes": SumMetric()}
        if self.has_camera:
            for mode in ("ac", "paper"):
                metrics[f"blur_monotonicity_{mode}"] = BlurMonotonicity(probe.f_numbers, mode=mode)
            if segmenter is not None:
                metrics["content_consistency"] = ContentConsistency(
                    segmenter, top_k=segmenter.top_k
                )
        self.metrics = nn.ModuleDict(metrics).to(module.device)
        self.apertures: list[list[Tensor]] = []
        self.foci: list[list[Tensor]] = []
        self.captions: list[str] = []

    @torch.no_grad()
    def update(self, batch: Batch) -> None:
        """Sweep the prompts of one batch."""
        kept = min(self.scenes_left, len(batch.key))
        if kept <= 0:
            return
        batch = Batch(*(field[:kept] for field in batch))
        self.scenes_left -= kept
        sweep = torch.stack(self.aperture_sweep(batch), dim=1)
        for name, metric in self.metrics.items():
            metric.update(kept if name == "scenes" else sweep)
        room = max(0, self.probe.sheet_scenes - len(self.captions))
        self.apertures += [list(pictures) for pictures in sweep[:room]]
        self.captions += batch.caption[:room]
        if self.module.lens is not None:
            self.foci += [
                list(pictures) for pictures in torch.stack(self.focus_sweep(batch), dim=1)[:room]
            ]

    def aperture_sweep(self, batch: Batch) -> list[Tensor]:
        """Return one batch of pictures for each f-number; without a camera, one batch."""
        asked = [
            Conditioning.of(batch)._replace(f_number=torch.full_like(batch.f_number, number))
            for number in self.probe.f_numbers[: None if self.has_camera else 1]
        ]
        if self.module.lens is None:
            pictures = [generate(self.module, batch, each) for each in asked]
            check_not_diverged(pictures)
            return pictures
        scene = self.scene(batch)
        return [self.photograph(scene, each, scene.focus_distance) for each in asked]

    def focus_sweep(self, batch: Batch) -> list[Tensor]:
        """Return one batch of pictures for each share of the depths, at the widest aperture."""
        scene, number = self.scene(batch), min(self.probe.f_numbers)
        asked = Conditioning.of(batch)._replace(f_number=torch.full_like(batch.f_number, number))
        depths = scene.depth.flatten(1)
        shares = depths.new_tensor(FOCUS_SHARES)
        return [
            self.photograph(scene, asked, distance) for distance in depths.quantile(shares, dim=1)
        ]

    def scene(self, batch: Batch) -> Scene:
        """Generate all in focus, and predict depth and focus."""
        image = generate(self.module, batch, Conditioning.of(batch))
        depth = self.module.networks.depth(image)
        focus = self.module.networks.focus(image, depth)
        check_not_diverged([image, *focus])
        return Scene(image, depth, focus.focus_distance, focus.scale_mm)

    def photograph(self, scene: Scene, asked: Conditioning, focus_distance: Tensor) -> Tensor:
        """Run the lens."""
        lens = self.module.lens
        picture = lens.photograph(
            scene.image, scene.depth, focus_distance, scene.scale_mm, asked.exif, asked.width_px
        )
        return picture.clamp(0, 1)

    def values(self) -> dict[str, float]:
        """Return the numbers over all ranks; every rank must ask."""
        values = compute_all(self.metrics)
        self.scenes_seen = int(values.pop("scenes"))
        return values | (
            {"ties_ac": float(self.metrics["blur_monotonicity_ac"].ties())}
            if self.has_camera
            else {}
        )

    def end(self) -> None:
        """Take the metrics, and a segmenter's network with them, off the device."""
        self.metrics.cpu()

    def write(self, folder: Path, step: int, values: dict[str, float]) -> None:
        """Write `metrics.json`, with the count of scenes that all ranks saw, and the sheets."""
        probe = self.probe
        f_numbers = list(probe.f_numbers) if self.has_camera else []
        write_json(
            folder / "metrics.json",
            {"step": step, "probe": values, "f_numbers": f_numbers, "scenes": self.scenes_seen},
        )
        if not self.apertures:
            return
        titles = [f"f/{number:g}" for number in f_numbers] or ["generated"]
        sheets = folder / "sheets"
        write_sheet(
            sheets / f"apertures-{step:08d}.png",
            self.apertures,
            titles,
            self.captions,
            probe.sheet_scale,
        )
        if self.foci:
            titles = [f"focus at {share:.0%} of depth" for share in FOCUS_SHARES]
            write_sheet(
                sheets / f"focus-{step:08d}.png",
                self.foci,
                titles,
                self.captions,
                probe.sheet_scale,
            )


def generating(module: Text2Image) -> Name:
    """Name the network that makes the probe's pictures.

    In the teacher stage that is the teacher, in as few steps: what the generator is going to begin
    from.
    """
    return "generator" if module.stages.generator_has_begun(module.global_step) else "teacher"


@torch.no_grad()
def generate(module: Text2Image, batch: Batch, asked: Conditioning) -> Tensor:
    """Return the generator's pictures [b, 3, h, w] in [0, 1] of what is asked, from a noise of each sample's own.

    Its running average's where there is one, as that is what is exported.
    """
    networks, name = module.networks, generating(module)
    ask = module.ask(name, asked)
    if name == "generator" and module.average is not None and module.average.n_averaged > 0:
        ask = ask._replace(unet=module.average.module)
    shape = networks.latent_shape(batch.image_srgb)
    draw = fresh_noise(shape, module.seed, batch.index.tolist(), "probe", module.device)
    with no_gradient():
        return networks.display(sample(ask.noise, draw, module.alphas)).clamp(0, 1)
