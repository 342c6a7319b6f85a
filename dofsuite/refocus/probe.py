"""The control probe and the sample sheet: does the model follow the camera on held-out scenes?

The flow loss hardly moves in training and does not measure control; LVCorr alone can be gamed (a
tenth of the blur scores higher than the true renderer). So the probe has four numbers, each next to
the ground truth's: LVCorr, blur gain, focus hit rate, and the mean absolute error next to those of
`copy` (the unchanged reference) and `oracle` (BokehMe's exact kernel). The focus hit rate compares
two images refocused from the all-in-focus image, so it measures control alone and chance is 0.5;
for the refocus hit rate each is refocused from the other, which needs deblurring too, and `copy`
has nearly 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
    """The control probe of every validation."""

    levels: tuple[int, ...] = (5, 10, 15, 20)
    """Bokeh levels of the sweep from the all-in-focus image; LVCorr depends strongly on them."""
    pair_level: int = 20
    """Level of the pair focused on two planes, from the all-in-focus image and from each other."""
    scenes: int = 32
    """Held-out scenes."""
    sheet_scenes: int = 4
    """Scenes on the sheet; 0 writes none."""
    sheet_scale: int = 1
    """Magnification of the sheet's images."""

    def __post_init__(self) -> None:
        is_rising = list(self.levels) == sorted(set(self.levels))
        if len(self.levels) < 2 or min(self.levels) <= 0 or not is_rising:
            raise ValueError(
                f"levels: two or more rising levels above 0 are expected, not {self.levels}"
            )
        minima = {"scenes": 1, "pair_level": 1, "sheet_scenes": 0, "sheet_scale": 1}
        for name, least in minima.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {least} or more is expected, not {getattr(self, name)}")


class ProbeQuery(NamedTuple):
    """Reference and target images [b, 3, h, w] and the target's camera."""

    reference: Tensor
    target: Tensor
    camera: Cameras


# The scenes and one query of each -> images [b, 3, h, w] in [0, 1].
Predictor = Callable[[Batch, ProbeQuery], Tensor]


class Queries(NamedTuple):
    """All queries of a batch of scenes, and the points in focus [b, 2]."""

    sweep: list[ProbeQuery]  # The near point at each level, from the all-in-focus image
    pair: list[ProbeQuery]  # The near and the far point, from the all-in-focus image
    refocused_pair: list[ProbeQuery]  # The near point from the image focused far, and the reverse
    points: tuple[Tensor, Tensor]  # (near, far)


def near_and_far_cameras(disparity: Tensor, uniforms: Tensor) -> tuple[Cameras, Cameras]:
    """Return all-in-focus cameras on the nearest and farthest tenth of each disparity range."""
    height, width = disparity.shape[-2:]
    values = disparity.flatten(1)
    low, high = values.aminmax(dim=1, keepdim=True)
    tenth = 0.1 * (high - low)
    allowed = (values >= high - tenth, values <= low + tenth)
    cameras = []
    for mask, uniform in zip(allowed, uniforms.unbind(dim=1), strict=True):
        pixel = choose(mask, uniform)
        plane = values.gather(1, pixel[:, None])[:, 0]
        cameras.append(Cameras(point_of(pixel, height, width), plane, torch.zeros_like(plane)))
    return cameras[0], cameras[1]


class ProbeRun:
    """One pass of the probe over one rank's share of the held-out scenes."""

    def __init__(
        self,
        probe: Probe,
        rendering: Rendering,
        seed: int,
        predict: Predictor,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        self.probe, self.rendering = probe, rendering
        self.seed, self.predict = seed, predict
        self.scenes_left = num_scenes_on_rank(probe.scenes, rank, world_size)
        self.num_scenes = 0
        levels = [float(level) for level in probe.levels]
        # Any: torch types the items of a ModuleDict as modules without `update`.
        self.metrics: Any = torch.nn.ModuleDict(
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
        # A rank without scenes too: its metrics take part in the reduction.
        self.metrics.to(batch.image_srgb.device)
        if self.scenes_left <= 0:
            return
        # This rank's share of the probe's scenes
        count = min(self.scenes_left, len(batch.key))
        self.scenes_left -= count
        self.metrics["scenes"].update(count)
        batch = Batch._make(field[:count] for field in batch)
        # Predict, score, and keep the first scenes for the sheet
        queries = self.queries(batch)
        all_queries = [*queries.sweep, *queries.pair, *queries.refocused_pair]
        preds = [self.predict(batch, query) for query in all_queries]
        check_not_diverged(preds)
        self.score(batch, queries, all_queries, preds)
        room = self.probe.sheet_scenes - len(self.sheet) // 2
        rows = sheet_rows(batch, all_queries, preds, queries.points[0])
        self.sheet += rows[: 2 * max(0, room)]

    def queries(self, batch: Batch) -> Queries:
        # Cameras: a sweep of levels on the near plane, and the pair's level on both planes
        uniforms = diffusion.draw_uniform(self.seed, batch.index.tolist(), "probe", 2)
        near, far = near_and_far_cameras(batch.disparity, uniforms.to(batch.disparity.device))
        zero = near.bokeh_level
        sweep = [near._replace(bokeh_level=zero + level) for level in self.probe.levels]
        near, far = (c._replace(bokeh_level=zero + self.probe.pair_level) for c in (near, far))
        # Ground truth: each camera's photograph of the all-in-focus image
        image, width_px = batch.image_srgb, input_width_px(batch.image_srgb)
        cameras = [*sweep, near, far]
        targets = photograph(image, batch.disparity, width_px, cameras, self.rendering)
        # From the all-in-focus image; then each of the pair from the other
        from_sharp = [ProbeQuery(image, *pair) for pair in zip(targets, cameras, strict=True)]
        at_near, at_far = targets[-2:]
        refocused = [ProbeQuery(at_far, at_near, near), ProbeQuery(at_near, at_far, far)]
        return Queries(
            sweep=from_sharp[:-2],
            pair=from_sharp[-2:],
            refocused_pair=refocused,
            points=(near.focus_point, far.focus_point),
        )

    def score(
        self, batch: Batch, queries: Queries, all_queries: list[ProbeQuery], preds: list[Tensor]
    ) -> None:
        # Strength of the blur over the sweep
        count = len(queries.sweep)
        sweep = torch.stack(preds[:count], 1)  # [b, levels, 3, h, w]
        true_sweep = torch.stack([query.target for query in queries.sweep], 1)
        self.metrics["lvcorr"].update(sweep)
        self.metrics["lvcorr_truth"].update(true_sweep)
        self.metrics["blur_gain"].update(sweep, true_sweep)
        # Which of the two points is the sharper one
        pairs = {
            "focus_hit_rate": preds[count : count + 2],
            "refocus_hit_rate": preds[count + 2 :],
            "focus_hit_rate_truth": [query.target for query in queries.pair],
        }
        for name, pair in pairs.items():
            self.metrics[name].update(torch.stack(pair, 1), torch.stack(queries.points, 1))
        # Error of the prediction, the unchanged reference and the exact kernel
        for query, pred in zip(all_queries, preds, strict=True):
            images = {
                "mae": pred,
                "mae_copy": query.reference,
                "mae_oracle": self.oracle(batch, query.camera),
            }
            for name, image in images.items():
                self.metrics[name].update((image - query.target).abs().mean(dim=(1, 2, 3)))

    def oracle(self, batch: Batch, camera: Cameras) -> Tensor:
        """Render with BokehMe's exact kernel: its error is the training renderer's own."""
        gamma, width_px = self.rendering.gamma, input_width_px(batch.image_srgb)
        radius_px = bokeh_radius_px(
            batch.disparity,
            camera.focus_disparity,
            camera.bokeh_level,
            width_px,
            self.rendering.reference_width_px,
        )
        light = render_bokeh(display_to_linear(batch.image_srgb, gamma), radius_px, method="exact")
        return linear_to_display(light, gamma).clamp(0, 1)

    def values(self) -> dict[str, float]:
        """Return the probe's numbers. Collective: must be called on all ranks."""
        values = compute_all(self.metrics)
        self.num_scenes = int(values.pop("scenes"))
        return values

    def write(self, folder: Path, step: int, values: dict[str, float]) -> Path | None:
        """Write `metrics.json` and the sheet, whose path is returned if there is one."""
        settings = {
            "levels": list(self.probe.levels),
            "pair_level": self.probe.pair_level,
            "scenes": self.num_scenes,
        }
        write_json(folder / "metrics.json", {"step": step, "probe": values, **settings})
        if not self.sheet:
            return None
        # One column for each image of `sheet_rows`
        titles = ["all in focus", "depth", *(f"b = {level}" for level in self.probe.levels)]
        titles += ["near in focus", "far in focus"]
        titles += ["given: far in focus", "near in focus", "given: near in focus", "far in focus"]
        path = folder / "sheets" / f"step-{step:08d}.png"
        write_sheet(
            path,
            [images for _, images in self.sheet],
            titles,
            [title for title, _ in self.sheet],
            self.probe.sheet_scale,
        )
        return path


def sheet_rows(
    batch: Batch, queries: list[ProbeQuery], preds: list[Tensor], near: Tensor
) -> list[tuple[str, list[Tensor]]]:
    """Return two rows for each scene: predictions and ground truth.

    Each begins with the all-in-focus image, the focus point marked, and the depth; the last two
    images follow their references.
    """
    targets = [query.target for query in queries]
    rows = []
    for i in range(len(batch.key)):
        inputs = [draw_marker(batch.image_srgb[i], near[i]), batch.disparity[i].expand(3, -1, -1)]
        for title, images in (("model", preds), ("truth", targets)):
            scene = [image[i] for image in images]
            from_far, from_near = (query.reference[i] for query in queries[-2:])
            pair = [from_far, scene[-2], from_near, scene[-1]]
            rows.append((title, [*inputs, *scene[:-2], *pair]))
    return rows
