"""From options to refocused photographs: every photograph, every point, every bokeh level."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from dofsuite.backbones.quantization import Quantization, check_can_quantize
from dofsuite.errors import UserError
from dofsuite.images import MIN_SIDE_PX
from dofsuite.photography import DepthEstimator, Photo, SceneDepth, write_photo
from dofsuite.photography.animation import frame_of
from dofsuite.photography.photo_encoding import lost_in
from dofsuite.photography.run import finish_photo, for_each_photo, open_photo
from dofsuite.photography.sweep import (
    Outputs,
    Variant,
    checked_outputs,
    photo_paths,
    point_variants,
)
from dofsuite.refocus.config import RefocusConfig
from dofsuite.refocus.full_size import full_size_photo
from dofsuite.refocus.moved import what_moved
from dofsuite.refocus.pipeline import RefocusPipeline
from dofsuite.refocus.settings import RefocusSettings


def refocus_all(config: RefocusConfig) -> None:
    """Refocus all photographs; a bad one is reported and the others are done.

    Raises:
        UserError: An option is wrong, the model cannot be loaded, or at least one photograph could
            not be refocused.
    """
    # Everything is named and checked before the model is loaded, at the first good photograph.
    photos = list(dict.fromkeys(photo_paths(config.photos)))
    variants = point_variants(config)
    outputs = checked_outputs(config, photos, variants)
    RefocusSettings.find(config.model)
    estimate, pipeline = DepthEstimator(config.depth_model), cache(lambda: loaded(config))

    def refocus_file(path: Path) -> None:
        photo, depth = open_photo(config, path, estimate)
        if min(photo.size) < MIN_SIDE_PX:
            raise UserError(f"{path}: it needs {MIN_SIDE_PX} px a side to be refocused.")
        _refocus_photo(config, pipeline, path, photo.over_white(), depth, variants, outputs[path])

    for_each_photo("refocus", photos, refocus_file)


def loaded(config: RefocusConfig) -> RefocusPipeline:
    """Load the model onto the GPU, if there is one."""
    # What the machine lacks
    if (config.offload or config.offload_blocks) and not torch.cuda.is_available():
        named = "--offload" if config.offload else "--offload-blocks"
        raise UserError(f"{named}: there is no GPU to keep free; leave the option out.")
    quantization = cast(Quantization, config.quantize)
    check_can_quantize(quantization, "--quantize")
    # The model, and where its parts are
    pipe = RefocusPipeline.from_export(
        config.model, base=config.base, distilled=config.distilled, quantize=quantization
    )
    pipe.set_progress_bar_config(disable=None)
    if config.offload:
        pipe.enable_model_cpu_offload()
    elif config.offload_blocks:
        offload_blocks(pipe, torch.device("cuda"))
    elif torch.cuda.is_available():
        pipe.to("cuda")
    return pipe


def offload_blocks(pipe: RefocusPipeline, device: torch.device) -> None:
    """Keep on a GPU only the transformer's block that runs, and the small networks."""
    pipe.transformer.enable_group_offload(
        onload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,
        # The next block is copied while one runs
        use_stream=device.type == "cuda",
    )
    for network in (pipe.vae, pipe.camera, pipe.depth_model):
        if network is not None:
            network.to(device)


def _refocus_photo(
    config: RefocusConfig,
    pipeline: Callable[[], RefocusPipeline],
    path: Path,
    photo: Photo,
    depth: SceneDepth | None,
    variants: Sequence[Variant],
    outputs: Outputs,
) -> None:
    """Refocus one photograph for each variant, write the pictures and the animation."""
    # The network's answers, from one noise
    pipe = pipeline()
    points = [cast(tuple[float, float], variant.focus) for variant in variants]
    levels = [variant.bokeh_level or 0.0 for variant in variants]
    (answers,) = cast(
        tuple[Tensor],
        pipe(
            photo.to_srgb()[None],
            points,
            levels,
            None if depth is None else depth.disparity,
            config.steps,
            [torch.Generator().manual_seed(config.seed) for _ in variants],
            "pt",
            return_dict=False,
            batch_size=config.batch_size,
        ),
    )
    # At the network's size, or at the photograph's
    frames, moved = [], []
    for answer, point, level, output in zip(
        answers.cpu(), points, levels, outputs.stills, strict=True
    ):
        if said := what_moved(answer, photo.to_srgb()):
            moved.append(f"{output.name}: the model {' and '.join(said)}; a refocus does not")
        refocused = Photo(answer, exif=photo.exif)
        if config.full_size and depth is not None:
            width_px = pipe.camera.config.reference_width_px
            refocused = full_size_photo(photo, answer, depth, point, level, width_px)
        write_photo(refocused, output)
        if outputs.animation:
            frames.append(frame_of(refocused.to_srgb()))
        height, width = refocused.size
        x, y = point
        print(f"{output}: {width}x{height}, focus {x:g},{y:g}, bokeh {level:g}")
    notes = (*photo.notes, *moved, *lost_in(refocused, outputs.stills[0]))
    finish_photo(config, path, outputs, frames, notes)
