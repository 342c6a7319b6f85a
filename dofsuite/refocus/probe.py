"""The control probe and the sample sheet: does the model do what the camera says, on scenes it has never seen?

The flow loss hardly moves in training and says nothing about control; LVCorr alone can be gamed (a
tenth of the blur scores higher than the true renderer). So the probe has four numbers, each beside
the ground truth's: LVCorr, blur gain, focus hit rate, and the mean absolute error beside that of
`copy` (the reference unchanged) and `oracle` (BokehMe's exact kernel). The focus hit rate is of two
pictures made from the all-in-focus image, so that it measures control alone and chance is 0.5; the
refocus hit rate, of two pictures each made from the other, asks for deblurring too, and `copy` has
nearly 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import MeanMetric, SumMetric

from dofsuite import diffusion
from dofsuite.data import Batch
from dofsuite.files import write_json
from dofsuite.images import draw_marker
from dofsuite.metrics import BlurGain, FocusHitRate, LVCorr
from dofsuite.optics import bokeh_radius_px, display_to_linear, linear_to_display, render_bokeh
from dofsuite.refocus.cameras import Cameras, choose, point_of
from dofsuite.refocus.rendering import Rendering, input_width_px, photograph
from dofsuite.training import check_not_diverged, write_sheet
from dofsuite.training.validation import compute_all, num_scenes_on_rank


@dataclass(frozen=True)
class Probe:
    """What is probed at every validation."""

    levels: tuple[int, ...] = (5, 10, 15, 20)
    """Bokeh levels of the sweep from the all-in-focus image; LVCorr depends strongly on them."""
    pair_level: int = 20
    """Level of the pictures focused on two planes, each made from the all-in-focus image and from the other."""
    scenes: int = 32
    """Held-out scenes."""
    sheet_scenes: int = 4
    """Scenes on the sheet; 0 writes none."""
    sheet_scale: int = 1
    """Magnification of the sheet's pictures."""

    def __post_init__(self) -> None:
        if (
            len(self.levels) < 2
            or min(self.levels) <= 0
            or list(self.levels) != sorted(set(self.levels))
        ):
            raise ValueError(
                f"levels: two or more rising levels above 0 are expected, not {self.levels}"
            )
        if self.scenes < 1:
            raise ValueError("scenes: at least one is needed")
        for name, least in (("pair_level", 1), ("sheet_scenes", 0), ("sheet_scale", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {least} or more is expected, not {getattr(self, name)}")


class Task(NamedTuple):
    """Pictures asked of the model: references and true pictures [b, 3, h, w] and the camera between them."""

    reference: Tensor
    target: Tensor
    camera: Cameras


def two_planes(disparity: Tensor, uniforms: Tensor) -> tuple[Cameras, Cameras]:
    """Return a camera on the nearest tenth of each scene's disparities and one on the farthest tenth, level 0."""
    height, width = disparity.shape[-2:]
    values = disparity.flatten(1)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    tenth = 0.1 * (high - low)
    cameras = []
    for allowed, uniform in (
        (values >= high - tenth, uniforms[:, 0]),
        (values <= low + tenth, uniforms[:, 1]),
    ):
        pixel = choose(allowed, uniform)
        plane = values.gather(1, pixel[:, None])[:, 0]
        cameras.append(Cameras(point_of(pixel, height, width), plane, torch.zeros_like(plane)))
    return cameras[0], cameras[1]


Method = Callable[[Batch, Task], Tensor]
"""What is probed: the scenes and one task of each -> pictures [b, 3, h, w] in [0, 1]."""


class ProbeRun:
    """One pass of the probe over the held-out scenes, by one of several ranks."""

    def __init__(
        self,
        probe: Probe,
        rendering: Rendering,
        seed: int,
        method: Method,
        ranks: int = 1,
        rank: int = 0,
    ) -> None:
        self.probe, self.rendering, self.seed, self.method = probe, rendering, seed, method
        self.scenes_left, self.scenes_seen = num_scenes_on_rank(probe.scenes, rank, ranks), 0
        levels = [float(level) for level in probe.levels]
        self.metrics = torch.nn.ModuleDict(
            {
                "lvcorr": LVCorr(levels),
                "lvcorr_truth": LVCorr(levels),
                "blur_gain": BlurGain(levels),
                "focus_hit_rate": FocusHitRate(),
                "refocus_hit_rate": FocusHitRate(),
                "focus_hit_rate_truth": FocusHitRate(),
                "mae": MeanMetric(),
                "mae_copy": MeanMetric(),
                "mae_oracle": MeanMetric(),
                "scenes": SumMetric(),
            }
        )
        self.sheet: list[tuple[str, list[Tensor]]] = []

    def update(self, batch: Batch) -> None:
        """Ask the sweep and the pairs of the scenes of one batch."""
        self.metrics.to(
            batch.image_srgb.device
        )  # a rank without scenes too, for its part in the sum over ranks
        if self.scenes_left <= 0:
            return
        kept = min(self.scenes_left, len(batch.key))
        self.metrics["scenes"].update(kept)
        batch = Batch(*(field[:kept] for field in batch))
        self.scenes_left -= kept
        tasks, points = self.tasks(batch)
        preds = [self.method(batch, task) for task in tasks]
        check_not_diverged(preds)
        self.score(batch, tasks, preds, points)
        room = self.probe.sheet_scenes - len(self.sheet) // 2
        self.sheet += sheet_rows(batch, tasks, preds, points[0])[: 2 * max(0, room)]

    def tasks(self, batch: Batch) -> tuple[list[Task], tuple[Tensor, Tensor]]:
        """Return the sweep, the pair from all in focus and the pair from each other; and the points (near, far)."""
        uniforms = diffusion.draw_uniform(self.seed, batch.index.tolist(), "probe", 2).to(
            batch.disparity.device
        )
        near, far = two_planes(batch.disparity, uniforms)
        sweep = [near._replace(bokeh_level=near.bokeh_level + level) for level in self.probe.levels]
        pair = [
            plane._replace(bokeh_level=plane.bokeh_level + self.probe.pair_level)
            for plane in (near, far)
        ]
        width_px = input_width_px(batch.image_srgb)
        *truth, at_near, at_far = photograph(
            batch.image_srgb, batch.disparity, width_px, [*sweep, *pair], self.rendering
        )
        tasks = [
            Task(batch.image_srgb, target, camera)
            for target, camera in zip(truth, sweep, strict=True)
        ]
        tasks += [Task(batch.image_srgb, at_near, pair[0]), Task(batch.image_srgb, at_far, pair[1])]
        tasks += [Task(at_far, at_near, pair[0]), Task(at_near, at_far, pair[1])]
        return tasks, (near.focus_point, far.focus_point)

    def score(
        self, batch: Batch, tasks: list[Task], preds: list[Tensor], points: tuple[Tensor, Tensor]
    ) -> None:
        """Update the metrics."""
        count = len(self.probe.levels)
        truth = [task.target for task in tasks]
        sweep, true_sweep = torch.stack(preds[:count], 1), torch.stack(truth[:count], 1)
        self.metrics["lvcorr"].update(sweep)
        self.metrics["lvcorr_truth"].update(true_sweep)
        self.metrics["blur_gain"].update(sweep, true_sweep)
        pairs = {
            "focus_hit_rate": preds[count : count + 2],
            "refocus_hit_rate": preds[count + 2 :],
            "focus_hit_rate_truth": truth[count : count + 2],
        }
        for name, pair in pairs.items():
            self.metrics[name].update(torch.stack(pair, 1), torch.stack(points, 1))
        for task, pred in zip(tasks, preds, strict=True):
            pictures = {
                "mae": pred,
                "mae_copy": task.reference,
                "mae_oracle": self.oracle(batch, task.camera),
            }
            for name, picture in pictures.items():
                self.metrics[name].update((picture - task.target).abs().mean(dim=(1, 2, 3)))

    def oracle(self, batch: Batch, camera: Cameras) -> Tensor:
        """Render with BokehMe's exact kernel: what separates it from the truth is the training renderer's own error."""
        rendering, width_px = self.rendering, input_width_px(batch.image_srgb)
        radius_px = bokeh_radius_px(
            batch.disparity,
            camera.focus_disparity,
            camera.bokeh_level,
            width_px,
            rendering.reference_width_px,
        )
        light = render_bokeh(
            display_to_linear(batch.image_srgb, rendering.gamma), radius_px, method="exact"
        )
        return linear_to_display(light, rendering.gamma).clamp(0, 1)

    def values(self) -> dict[str, float]:
        """Return the probe's numbers over all ranks; every rank must ask."""
        values = compute_all(self.metrics)
        self.scenes_seen = int(values.pop("scenes"))
        return values

    def write(self, folder: Path, step: int, values: dict[str, float]) -> None:
        """Write `metrics.json`, with the count of scenes that all ranks saw, and the sample sheet where it has any."""
        settings = {
            "levels": list(self.probe.levels),
            "pair_level": self.probe.pair_level,
            "scenes": self.scenes_seen,
        }
        write_json(folder / "metrics.json", {"step": step, "probe": values, **settings})
        if not self.sheet:
            return
        titles = ["all in focus", "depth", *(f"b = {level}" for level in self.probe.levels)]
        titles += ["near in focus", "far in focus"]
        titles += ["given: far in focus", "near in focus", "given: near in focus", "far in focus"]
        write_sheet(
            folder / "sheets" / f"step-{step:08d}.png",
            [images for _, images in self.sheet],
            titles,
            [title for title, _ in self.sheet],
            self.probe.sheet_scale,
        )


def sheet_rows(
    batch: Batch, tasks: list[Task], preds: list[Tensor], near: Tensor
) -> list[tuple[str, list[Tensor]]]:
    """Return two rows a scene, the model's and the true pictures, the focus point marked on the all-in-focus one."""
    rows = []
    for i in range(len(batch.key)):
        given = [draw_marker(batch.image_srgb[i], near[i]), batch.disparity[i].expand(3, -1, -1)]
        for title, pictures in (("model", preds), ("truth", [task.target for task in tasks])):
            *free, near_again, far_again = [picture[i] for picture in pictures]
            references = [task.reference[i] for task in tasks[-2:]]
            rows.append(
                (title, [*given, *free, references[0], near_again, references[1], far_again])
            )
    return rows
