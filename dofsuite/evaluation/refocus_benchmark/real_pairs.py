"""A benchmark of real pairs: photographs at two apertures or more, as `data import` wrote them.

Each blurred photograph gives a deblur sample (the sharp photograph is its target). With depth it
also gives a bokeh sample: the sharp photograph is the reference, the blurred one the target, and
the camera is the one with which the renderer comes nearest to it (*ours*): no data set says blur in
pixels for a disparity of unknown scale. Where a scene was focused at several distances, neighboring
ones give refocus samples in both directions.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.data.batch import resize_and_crop
from dofsuite.data.decode import DECODERS, disparity_from_depth_map
from dofsuite.data.importers.pairs_file import StoredPair, StoredPairs, read_pairs
from dofsuite.errors import UserError
from dofsuite.evaluation.job import compute_rows, rank_and_world_size
from dofsuite.evaluation.refocus_benchmark.config import BenchmarkConfig
from dofsuite.evaluation.refocus_benchmark.format import (
    MANIFEST,
    Sample,
    Task,
    disparity_png,
    entry_of,
    write_manifest,
)
from dofsuite.evaluation.refocus_benchmark.points import Point, disparity_at
from dofsuite.evaluation.refocus_benchmark.samples_csv import write_samples
from dofsuite.evaluation.refocus_benchmark.sources import DisparityModel, depth_model
from dofsuite.files import read_bytes, write_bytes
from dofsuite.images import encode_png, minmax_normalize, quantize_8bit, read_image, resize
from dofsuite.optics import DisparityLayers, display_to_linear, linear_to_display

# Cameras that are tried (*ours*): at the reference width, and at this size of the image.
FIT_PLANES = torch.linspace(0, 1, 11, dtype=torch.float64)
FIT_LEVELS = torch.tensor([1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40], dtype=torch.float64)
FIT_PX = 128
FIT_LAYERS = 41
# Disparity within which a pixel is on the focal plane (*ours*).
ON_PLANE = 0.02
CENTER: Point = (0.5, 0.5)
# Of a data set's camera: where it was focused.
FOCUS = ("focus_m", "focus_distance")


# A blurred photograph of a scene, cropped, and the camera that the renderer needs for it.
class Shot(NamedTuple):
    pair: StoredPair
    image: Tensor
    file: str
    point: Point = CENTER
    level: float = 0.0

    @property
    def focus(self) -> float | None:
        return next(
            (self.pair.blurred_camera[key] for key in FOCUS if key in self.pair.blurred_camera),
            None,
        )


def build_from_pairs(config: BenchmarkConfig) -> None:
    """Build the benchmark of a folder of real pairs.

    Raises:
        UserError: The pairs cannot be read, are smaller than the size, or have no depth map that
            fits.
    """
    # The pairs by scene
    if config.points or config.points_page:
        raise UserError("--points: real pairs have the focus that their photographer chose.")
    stored = read_pairs(config.folder)
    by_scene: dict[str, list[StoredPair]] = {}
    for pair in stored.pairs:
        by_scene.setdefault(pair.scene, []).append(pair)
    scenes = dict(list(by_scene.items())[: config.count])
    has_depth = config.predicted_by is not None or all(pair.depth for pair in stored.pairs)
    if not has_depth:
        print(
            f"{config.folder}: no depth: deblur samples only; --depth auto predicts depth, for "
            "bokeh samples"
        )
    model = depth_model(config.predicted_by) if config.predicted_by else None

    # Scene by scene
    def compute(scene: str) -> dict[str, Any]:
        return write_scene(config, stored, scenes[scene], model, has_depth)

    settings = config.settings() | {
        "bokeh_levels": [],
        "pairs": stored.data_set,
        "licence": stored.licence,
        "points": "of the fitted focal plane" if has_depth else "none",
        "depth": (config.predicted_by or f"maps of {stored.depth_kind}") if has_depth else "none",
        "originals_sha256": stored.checksum,
    }
    inputs = settings | {"scenes": list(scenes)}
    rows = compute_rows(config.output / "scenes", list(scenes), compute, inputs)
    if rows is None:
        print(f"{config.output}: this process's scenes are done; the last writes {MANIFEST}.")
        return
    benchmark = write_manifest(config.output, settings, rows, None)
    write_samples(config.output, benchmark.samples)
    if rank_and_world_size()[0] == 0:
        samples = sum(len(row["samples"]) for row in rows)
        print(f"{config.output}: {len(rows)} scenes of {stored.data_set}, {samples} samples")


def write_scene(
    config: BenchmarkConfig,
    stored: StoredPairs,
    pairs: Sequence[StoredPair],
    model: DisparityModel | None,
    has_depth: bool,
) -> dict[str, Any]:
    """Crop a scene's photographs, fit their cameras, and write its part of the benchmark."""
    # The sharp photograph and its disparity
    scene = pairs[0].scene
    sharp, disparity = read_sharp(config, stored, pairs[0], model)
    names = {"image": f"images/{scene}.png", "disparity": f"disparity/{scene}.png"}
    contents = {names["image"]: encode_png(sharp[0]), names["disparity"]: disparity_png(disparity)}
    # The blurred ones, with the camera that fits
    shots = []
    for pair in pairs:
        file = f"rendered/{scene}/{pair.name}.png"
        image = cropped(config, stored, pair.blurred)
        contents[file] = encode_png(image[0])
        shot = Shot(pair, image, file)
        if has_depth:
            plane, level = fitted_camera(sharp, disparity, image, config)
            shot = shot._replace(point=point_on_plane(disparity, plane), level=level)
        shots.append(shot)
    # Its part of the manifest
    for name, data in contents.items():
        write_bytes(config.output / name, data)
    samples = samples_of(scene, names["image"], disparity, shots, has_depth)
    return {
        "scene": scene,
        "source": "camera",
        **names,
        "samples": [sample._asdict() for sample in samples],
        "files": {name: entry_of(data) for name, data in contents.items()},
    }


def read_sharp(
    config: BenchmarkConfig, stored: StoredPairs, pair: StoredPair, model: DisparityModel | None
) -> tuple[Float[Tensor, "1 3 s s"], Float[Tensor, "1 1 s s"]]:
    """Read a scene's sharp photograph and its disparity, 0 everywhere without depth."""
    # From the data set's map, cropped with the photograph
    image = read_image(stored.folder / pair.sharp)
    size = (image.shape[1], image.shape[2])
    disparity = torch.zeros(1, *size)
    if model is None and pair.depth is not None:
        path = stored.folder / pair.depth
        values = DECODERS[f"depth.{path.suffix[1:]}"](read_bytes(path), str(path))
        kind = stored.depth_kind or "disparity"
        disparity[0] = torch.from_numpy(disparity_from_depth_map(values, kind, size, str(path)))
    item = as_square(image, disparity, config, stored.folder / pair.sharp)
    sharp = quantize_8bit(item["image"][None])
    # Or from a model, of the square; in 16 bits, as it is stored
    disparity = item["disparity"][None] if model is None else model(sharp)
    disparity = minmax_normalize(disparity.double())
    return sharp, (disparity * 65535).round().float() / 65535


def cropped(config: BenchmarkConfig, stored: StoredPairs, file: str) -> Float[Tensor, "1 3 s s"]:
    image = read_image(stored.folder / file)
    item = as_square(image, torch.zeros(1, *image.shape[1:]), config, stored.folder / file)
    return quantize_8bit(item["image"][None])


def as_square(
    image: Tensor, disparity: Tensor, config: BenchmarkConfig, path: Any
) -> dict[str, Any]:
    if min(image.shape[1:]) < config.size_px:
        raise UserError(
            f"{path}: {image.shape[2]}x{image.shape[1]} px are fewer than --size {config.size_px}: "
            "lower --size."
        )
    valid = torch.ones_like(disparity, dtype=torch.bool)
    item = {"image": image, "disparity": disparity, "valid": valid}
    return resize_and_crop(item, config.size_px)


def fitted_camera(
    sharp: Float[Tensor, "1 3 s s"],
    disparity: Float[Tensor, "1 1 s s"],
    blurred: Float[Tensor, "1 3 s s"],
    config: BenchmarkConfig,
) -> tuple[float, float]:
    """Return the focal plane and bokeh level whose rendering is nearest to a photograph.

    Least squares of display values, each color times the gain that fits best: the photographs of a
    pair differ in brightness.

    Args:
        sharp: All in focus.
        disparity: 0 far to 1 near.
        blurred: The photograph.
        config: Gamma and reference width.

    Returns:
        A plane of `FIT_PLANES` and a level of `FIT_LEVELS`.
    """
    # Every camera at a small size; levels are relative to the long side
    px = min(FIT_PX, sharp.shape[-1])
    image, target = (resize(each, px, px) for each in (sharp, blurred))
    layers = DisparityLayers(
        display_to_linear(image, config.gamma),
        resize(disparity, px, px, "bilinear"),
        FIT_LAYERS,
        torch.float32,
        largest_radius_px=float(FIT_LEVELS[-1]) * px / config.reference_width_px,
    )
    planes = FIT_PLANES.repeat(len(FIT_LEVELS))[:, None]
    levels = FIT_LEVELS.repeat_interleave(len(FIT_PLANES))[:, None]
    # Error of each with its best gains
    errors: list[float] = []
    for chunk in layers.render_variants(
        levels, planes, reference_width_px=config.reference_width_px
    ):
        rendered = linear_to_display(chunk[:, 0], config.gamma).clamp(0, 1)
        gain = (rendered * target).sum((-2, -1), True) / rendered.square().sum((-2, -1), True)
        errors += (gain * rendered - target).square().mean((1, 2, 3)).tolist()
    best = int(torch.tensor(errors).argmin())
    return float(planes[best]), float(levels[best])


def point_on_plane(disparity: Float[Tensor, "1 1 s s"], plane: float) -> Point:
    """Return the point nearest to the center whose disparity is the plane's."""
    # Distance from the center, of the pixels on the plane
    side = disparity.shape[-1]
    middle = (torch.arange(side) + 0.5) / side
    distance = ((middle[:, None] - 0.5) ** 2 + (middle - 0.5) ** 2).flatten()
    off = (disparity[0, 0] - plane).abs().flatten()
    distance = torch.where(off <= off.min() + ON_PLANE, distance, torch.inf)
    row, column = divmod(int(distance.argmin()), side)
    return float(middle[column]), float(middle[row])


def samples_of(
    scene: str, image: str, disparity: Tensor, shots: Sequence[Shot], has_depth: bool
) -> list[Sample]:
    """Return a scene's samples: deblur, and with depth bokeh and refocus."""

    def sample(task: Task, name: str, reference: str, target: str, shot: Shot) -> Sample:
        plane = float(disparity_at(disparity, shot.point))
        return Sample(
            f"{scene}/{task}_{name}", scene, task, reference, target, shot.point, plane, shot.level
        )

    # From each photograph to the sharp one, and back
    samples = []
    for shot in shots:
        in_focus = shot._replace(point=CENTER, level=0.0)
        samples.append(sample("deblur", shot.pair.name, shot.file, image, in_focus))
        if has_depth:
            samples.append(sample("bokeh", shot.pair.name, image, shot.file, shot))
    # From one distance to the next, with one blur parameter, in both directions
    if has_depth:
        for one, other in pairwise(shots):
            if None not in (one.focus, other.focus) and one.focus != other.focus:
                samples += [
                    sample("refocus", f"to_{to.pair.name}", before.file, to.file, to)
                    for before, to in ((one, other), (other, one))
                ]
    return samples
