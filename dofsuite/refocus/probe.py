"""The control probe and the sample sheet: does the model follow the camera on held-out scenes?

The flow loss hardly moves in training and does not measure control; LVCorr alone can be gamed (a
tenth of the blur scores higher than the true renderer). So the probe has many numbers
(`ProbeScores`), and beside them in `metrics.json` those of the ground truth and of three predictors
without a model: `copy` (the unchanged reference), `uniform_blur` (which ignores the point) and
`renderer_without_deblurring` (the renderer on the reference as it is given). The focus hit rate
compares two images refocused from the all-in-focus image, so it measures control alone and chance
is 0.5; for the refocus hit rate each is refocused from the other, which needs deblurring too, and
`copy` has nearly 0. `mae_oracle` is the error of BokehMe's exact kernel.
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
from dofsuite.optics import bokeh_radius_px, display_to_linear, linear_to_display, render_bokeh
from dofsuite.refocus.cameras import Cameras, choose, point_of
from dofsuite.refocus.probe_scores import ProbeScores, absolute_error
from dofsuite.refocus.rendering import Rendering, input_width_px, photograph
from dofsuite.refocus.without_model import uniform_blur, without_deblurring
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
        token_px: int = 8,
    ) -> None:
        """Begin a pass; `token_px` is the side of a model's token, whose borders are looked at."""
        self.probe, self.rendering = probe, rendering
        self.seed, self.predict = seed, predict
        self.scenes_left = num_scenes_on_rank(probe.scenes, rank, world_size)
        self.num_scenes = 0
        self.scores = {
            name: ProbeScores(probe.levels, token_px)
            for name in (
                "model",
                "truth",
                "copy",
                "uniform_blur",
                "renderer_without_deblurring",
            )
        }
        # Any: torch types the items of a ModuleDict as modules without `update`.
        self.others: Any = torch.nn.ModuleDict({"mae_oracle": MeanMetric(), "scenes": SumMetric()})
        self.metrics = torch.nn.ModuleDict({**self.scores, "others": self.others})
        # Numbers of what needs no model, and of the ground truth; known after `values`.
        self.baselines: dict[str, dict[str, float]] = {}
        self.sheet: list[tuple[str, list[Tensor]]] = []

    def update(self, batch: Batch) -> None:
        # A rank without scenes too: its metrics take part in the reduction.
        self.metrics.to(batch.image_srgb.device)
        if self.scenes_left <= 0:
            return
        # This rank's share of the probe's scenes
        count = min(self.scenes_left, len(batch.key))
        self.scenes_left -= count
        self.others["scenes"].update(count)
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
        # The model, and what needs none
        images = {
            "model": preds,
            "truth": [query.target for query in all_queries],
            "copy": [query.reference for query in all_queries],
            "uniform_blur": [self.uniform_blur(query) for query in all_queries],
            "renderer_without_deblurring": [
                self.without_deblurring(batch, query) for query in all_queries
            ],
        }
        # Blur radius at the sweep's ends
        weakest, strongest = (queries.sweep[i].camera for i in (0, -1))
        radii_px = (self.radius_px(batch, weakest), self.radius_px(batch, strongest))
        points = torch.stack(queries.points, 1)
        for name, of_predictor in images.items():
            self.scores[name].update(
                of_predictor, images["truth"], batch.image_srgb, points, radii_px
            )
        # BokehMe's exact kernel
        for query in all_queries:
            error = absolute_error(self.oracle(batch, query.camera), query.target)
            self.others["mae_oracle"].update(error)

    def uniform_blur(self, query: ProbeQuery) -> Tensor:
        image = query.reference
        return uniform_blur(image, input_width_px(image), query.camera, self.rendering)

    def without_deblurring(self, batch: Batch, query: ProbeQuery) -> Tensor:
        # From the all-in-focus image it makes the truth.
        if query.reference is batch.image_srgb:
            return query.target
        image = query.reference
        width_px = input_width_px(image)
        return without_deblurring(image, batch.disparity, width_px, query.camera, self.rendering)

    def radius_px(self, batch: Batch, camera: Cameras) -> Tensor:
        return bokeh_radius_px(
            batch.disparity,
            camera.focus_disparity,
            camera.bokeh_level,
            input_width_px(batch.image_srgb),
            self.rendering.reference_width_px,
        )

    def oracle(self, batch: Batch, camera: Cameras) -> Tensor:
        """Render with BokehMe's exact kernel: its error is the training renderer's own."""
        gamma, radius_px = self.rendering.gamma, self.radius_px(batch, camera)
        light = render_bokeh(display_to_linear(batch.image_srgb, gamma), radius_px, method="exact")
        return linear_to_display(light, gamma).clamp(0, 1)

    def values(self) -> dict[str, float]:
        """Return the model's numbers, and those of others that the run log has beside them.

        Collective: must be called on all ranks.
        """
        others = compute_all(self.others)
        self.num_scenes = int(others.pop("scenes"))
        numbers = {name: scores.values() for name, scores in self.scores.items()}
        values = numbers.pop("model")
        self.baselines = numbers
        truth = numbers["truth"]
        return values | {
            "lvcorr_truth": truth["lvcorr"],
            "focus_hit_rate_truth": truth["focus_hit_rate"],
            "mae_copy": numbers["copy"]["mae"],
            "mae_uniform_blur": numbers["uniform_blur"]["mae"],
            "mae_oracle": others["mae_oracle"],
        }

    def write(self, folder: Path, step: int, values: dict[str, float]) -> Path | None:
        """Write `metrics.json` and the sheet, whose path is returned if there is one."""
        settings = {
            "levels": list(self.probe.levels),
            "pair_level": self.probe.pair_level,
            "scenes": self.num_scenes,
        }
        numbers = {"step": step, "probe": values, "baselines": self.baselines}
        write_json(folder / "metrics.json", numbers | settings)
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
