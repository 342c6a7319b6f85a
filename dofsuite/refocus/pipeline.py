"""`RefocusPipeline`: refocus any image at a chosen point with a chosen bokeh level."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dofsuite.backbones import (
    Backbone,
    Codec,
    Conditions,
    PositionIds,
    RelativeDepth,
    family_of,
)
from dofsuite.backbones.hub import exported_part
from dofsuite.backbones.pipeline_io import (
    Generators,
    OutputImages,
    OutputType,
    check_output_arguments,
    latent_noise,
    to_output_type,
)
from dofsuite.backbones.quantization import Quantization, is_quantized, store_blocks
from dofsuite.images import image_values, minmax_normalize, resize
from dofsuite.refocus.camera_embedder import CameraEmbedder
from dofsuite.refocus.export import CAMERA, read_adapter
from dofsuite.refocus.sampling import Sampler
from dofsuite.refocus.settings import RefocusSettings, load_base


class RefocusPipelineOutput(BaseOutput):
    """`images`: PIL images, a tensor [b, 3, h, w] or an array [b, h, w, 3]; both in [0, 1]."""

    images: OutputImages


# From this many times the largest trained level on, a warning (*ours*; paper: 30 works, App. G).
BEYOND_TRAINING = 1.5

# diffusers' `callback_on_step_end`: (pipeline, step, timestep, tensors by name) -> the same.
StepCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]


class RefocusPipeline(DiffusionPipeline):
    """Refocus images with a base model, a refocus adapter and its camera token.

    Example:
        >>> pipe = RefocusPipeline.from_export("runs/quickstart")  # doctest: +SKIP
        >>> pipe(photo, focus_point=(0.3, 0.6), bokeh_level=12).images[0]  # doctest: +SKIP
    """

    model_cpu_offload_seq = "depth_model->transformer->vae"
    _optional_components: ClassVar = ["depth_model"]

    def __init__(
        self,
        transformer: nn.Module,
        vae: nn.Module,
        camera: CameraEmbedder,
        scheduler: FlowMatchEulerDiscreteScheduler,
        guidance_embed: float = 1.0,
        position_ids: PositionIds = "kontext",
        num_inference_steps: int = 28,
        size_px: int | None = 512,
        uses_depth: bool = True,
        level_max: float | None = None,
        depth_model: nn.Module | None = None,
        conditions: Conditions = "full",
    ) -> None:
        super().__init__()
        family_of(transformer).set_conditions(transformer, conditions)
        self.register_modules(
            transformer=transformer,
            vae=vae,
            camera=camera,
            scheduler=scheduler,
            depth_model=depth_model,
        )
        self.register_to_config(
            guidance_embed=guidance_embed,
            position_ids=position_ids,
            num_inference_steps=num_inference_steps,
            size_px=size_px,
            uses_depth=uses_depth,
            level_max=level_max,
            conditions=conditions,
        )

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        # Saved pipelines from before keys were renamed
        old_keys = RefocusSettings.OLD_KEYS
        config = {old_keys.get(key, key): value for key, value in config_dict.items()}
        return super().extract_init_dict(config, **kwargs)

    @classmethod
    def from_export(
        cls,
        folder: str | Path,
        backbone: Backbone | None = None,
        depth: RelativeDepth | None = None,
        base: str | None = None,
        distilled: bool = False,
        quantize: Quantization = "none",
    ) -> RefocusPipeline:
        """Load an adapter that `dofsuite.fit` exported, and the base model.

        Args:
            folder: The export, or the run that it lies in.
            backbone: Another source of the same base; by default the one that the adapter was
                trained on.
            depth: A depth model, for images that come without depth; None: they are refocused
                without.
            base: Instead of `backbone`: the hub id or the folder of another copy of the base.
            distilled: Run the adapter on the base's few-step model (of FLUX.2 klein base 4B, klein
                4B), with that one's steps and schedule; `base` then names a copy of that model.
            quantize: Keep the weights of the base's blocks in 8 bits (`int8`, `fp8`) or in 4
                (`nf4`), whether the adapter was trained on them or not.

        Raises:
            UserError: The folder holds no adapter, a part of it cannot be read, the base cannot be
                loaded or quantized, or has no few-step model.
        """
        export = RefocusSettings.find(folder)
        settings = RefocusSettings.read(export)
        camera = exported_part(CameraEmbedder, export, CAMERA)
        # The base, or its few-step model, which has a schedule of its own
        scheduler = FlowMatchEulerDiscreteScheduler(shift=settings.time_shift)
        if distilled:
            few_step_model, steps = settings.few_step_model(export)
            base, settings = base or few_step_model, replace(settings, num_inference_steps=steps)
            scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        modules = load_base(backbone or settings.build_backbone(export, base))
        store_blocks(modules.transformer, quantize, key="quantize")
        read_adapter(modules.transformer, export)
        return cls(
            modules.transformer,
            cast(nn.Module, getattr(modules.codec, "vae", modules.codec)),
            camera,
            scheduler,
            **settings.pipeline_config(),
            depth_model=None if depth is None else depth.load(),
        )

    @property
    def device(self) -> torch.device:
        # The transformer's; diffusers takes that of the first part by name, maybe a depth model.
        return self.transformer.device

    @property
    def codec(self) -> Codec:
        return family_of(self.transformer).codec(self.vae)

    @property
    def sampler(self) -> Sampler:
        return Sampler(
            self.transformer,
            self.codec,
            self.camera,
            self.config.guidance_embed,
            self.config.position_ids,
            self.config.conditions,
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | list[Image.Image] | Tensor,
        focus_point: tuple[float, float] | list[tuple[float, float]] | Tensor,
        bokeh_level: float | list[float] | Tensor,
        depth: Tensor | None = None,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        batch_size: int | None = None,
    ) -> RefocusPipelineOutput | tuple[OutputImages]:
        """Refocus; a single image, depth, point or level is broadcast over the batch.

        Args:
            image: PIL images, rotated upright by their EXIF, or a tensor [b, 3, h, w] in [0, 1];
                resized to about the trained number of pixels at the same aspect ratio.
            focus_point: (x, y) as fractions of width and height from the top left, or [b, 2] of
                them.
            bokeh_level: Pixels of blur radius per unit of disparity where the image's long side has
                the camera's reference width (512 px), whatever its shape; 0 is all in focus. A
                number or [b].
            depth: Disparity [b, 1, h, w] in [0, 1], 0 far and 1 near, min-max normalized over the
                image as in training. None: the pipeline's depth model predicts it; without one the
                image is refocused alone. A model trained without depth ignores it, with a warning.
            num_inference_steps: Euler steps; the export's by default.
            generator: For the noise; one, or one for each image.
            output_type: `pil`, `pt` for a tensor or `np` for an array.
            return_dict: False for a tuple of the images alone.
            callback_on_step_end: As diffusers calls it, with (pipeline, step, timestep, {"latents":
                [b, c, h, w]}).
            batch_size: Images that are sampled at once; None: all. The image and its depth are
                encoded once in any case.

        Raises:
            ValueError: An argument is out of range, such as a focus point outside the image, or
                the batch sizes do not agree.
        """
        # Check the arguments; a batch size of 1 is broadcast
        steps = (
            self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        )
        point, level = checked_controls(focus_point, bokeh_level, steps)
        pixels = self.prepare_image(image)
        count = common_count(
            image=len(pixels),
            focus_point=len(point),
            bokeh_level=len(level),
            depth=1 if depth is None else len(checked_values("depth", depth, 1)),
        )
        check_output_arguments(output_type, generator, count)
        # Conditioning: latents of reference and depth [count, c, h, w]
        sampler = self.sampler
        reference = sampler.encode(pixels).expand(count, -1, -1, -1)
        if depth is None and self.depth_model is not None and self.config.uses_depth:
            depth = self.depth_model(pixels)
        depth_image = self.prepare_depth(depth, pixels)
        depth_latent = sampler.encode(depth_image).expand(count, -1, -1, -1)
        # Euler steps along the predicted velocity, and decode
        self.set_times(steps, reference.shape)
        point = point.expand(count, 2).to(pixels.device)
        level = self.token_level(level, pixels).expand(count).to(pixels.device)
        noise = latent_noise(reference.shape, generator, pixels.device)
        after_step = callback_on_step_end and partial(self._after_step, callback_on_step_end)
        images = []
        for start in range(0, count, batch_size or count):
            now = slice(start, start + (batch_size or count))
            images.append(
                sampler.refocus(
                    reference[now],
                    depth_latent[now],
                    point[now],
                    level[now],
                    noise[now],
                    self.scheduler.sigmas,
                    after_step,
                )
            )
        output = to_output_type(torch.cat(images), output_type)
        self.maybe_free_model_hooks()
        return RefocusPipelineOutput(images=output) if return_dict else (output,)

    def set_times(self, steps: int, shape: torch.Size) -> None:
        """Set the schedule's times; where it shifts by size, as the base's own pipeline does.

        Args:
            steps: Of Euler.
            shape: Of the latents, [b, c, h, w].
        """
        sigmas, mu = np.linspace(1.0, 1 / steps, steps), None
        if self.scheduler.config.use_dynamic_shifting:
            num_tokens = (shape[-2] // 2) * (shape[-1] // 2)
            mu = math.log(family_of(self.transformer).time_shift(num_tokens, steps))
        self.scheduler.set_timesteps(sigmas=sigmas, mu=mu)

    def _after_step(self, callback: StepCallback, step: int, latent: Tensor) -> Tensor:
        tensors = callback(self, step, self.scheduler.timesteps[step], {"latents": latent})
        return tensors.get("latents", latent)

    def prepare_image(self, image: Image.Image | list[Image.Image] | Tensor) -> Tensor:
        """Return pixels [b, 3, h, w] in [0, 1] at the model's working size."""
        if isinstance(image, Tensor):
            return self.fit(checked_values("image", image, 3))
        images = image if isinstance(image, list) else [image]
        values = [torch.from_numpy(image_values(each)).permute(2, 0, 1)[None] for each in images]
        fitted = [self.fit(value) for value in values]
        if len({value.shape for value in fitted}) != 1:
            sizes = ", ".join(f"{value.shape[-1]}x{value.shape[-2]}" for value in values)
            raise ValueError(
                f"image: {len(values)} photographs of {sizes or 'no size'}; give 1 or more of one "
                "shape"
            )
        return torch.cat(fitted)

    def fit(self, image: Tensor) -> Tensor:
        """Resize pixels [b, 3, h, w] to the working size, on the networks' device."""
        image = image.to(self._execution_device, torch.float32)
        return resize(image, *self.working_size(*image.shape[-2:]))

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in whole tokens: about size_px ** 2 pixels, the same aspect ratio.

        Paper: squares only. Here: any shape, because position ids allow it; only squares
        were trained.
        """
        token_px = 2 * self.codec.downscale
        scale = (self.config.size_px / (height * width) ** 0.5) if self.config.size_px else 1.0
        rows, columns = (max(1, round(side * scale / token_px)) for side in (height, width))
        return rows * token_px, columns * token_px

    def token_level(self, level: Tensor, pixels: Tensor) -> Tensor:
        """Return the level [b] that makes a square of training as blurred as is asked for.

        A level is a radius in a picture whose long side has the reference width, in a square of
        `size_px` as in any other. Pictures of other shapes have the square's area, so their long
        side is longer, by a factor of 1.22 for 3:2; the network makes the square's radii in them.
        """
        if self.config.size_px is not None:
            level = level * (max(pixels.shape[-2:]) / self.config.size_px)
        trained = self.config.level_max
        if trained is not None and float(level.max()) > BEYOND_TRAINING * trained:
            warnings.warn(
                f"A bokeh level of {float(level.max()):.3g} is more than {BEYOND_TRAINING:g} times "
                f"the largest of training, {trained:g}: the blur may fall short of it.",
                stacklevel=3,
            )
        return level

    def prepare_depth(self, depth: Tensor | None, pixels: Tensor) -> Tensor:
        """Return depth images [n, 3, h, w] in [0, 1]; zeros without depth, as in depth dropout."""
        if depth is not None and not self.config.uses_depth:
            warnings.warn(
                "This adapter was trained without depth: the depth given is ignored.",
                stacklevel=3,
            )
        if depth is None or not self.config.uses_depth:
            return torch.zeros_like(pixels)
        depth = interpolate(depth.to(pixels), pixels.shape[-2:], mode="bilinear", antialias=True)
        return minmax_normalize(depth).expand(-1, 3, -1, -1)

    def save_pretrained(self, *arguments: Any, **options: Any) -> None:
        """Save as diffusers does, once the adapter is fused into the weights.

        Raises:
            TypeError: It is not fused: diffusers would write names that it cannot load. It is not
                fused into a copy here, because in bfloat16 the sum is rounded and the images
                change. Or the base is quantized.
        """
        if is_quantized(self.transformer):
            raise TypeError(
                "the base is quantized; load the export without quantize, and save that"
            )
        if any(".base_layer." in name for name in self.transformer.state_dict()):
            raise TypeError(
                "copy the folder that from_export read, which is the adapter; for a pipeline that "
                "from_pretrained reads, call transformer.fuse_lora() and "
                "transformer.unload_lora() first"
            )
        super().save_pretrained(*arguments, **options)


def checked_controls(
    focus_point: Any, bokeh_level: Any, num_inference_steps: int
) -> tuple[Tensor, Tensor]:
    """Return points [n, 2] and levels [m] in float32.

    Raises:
        ValueError: A focus point, bokeh level or number of steps is out of range.
    """
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be 1 or above, not {num_inference_steps}")
    point = torch.as_tensor(focus_point, dtype=torch.float32)
    level = torch.as_tensor(bokeh_level, dtype=torch.float32).reshape(-1)
    if point.ndim not in (1, 2) or point.shape[-1] != 2:
        raise ValueError(f"focus_point must be (x, y) or [b, 2], not {list(point.shape)}")
    # Stated positively: nan fails every comparison
    is_inside = bool(((point >= 0) & (point <= 1)).all())
    if not is_inside or not bool(((level >= 0) & level.isfinite()).all()):
        raise ValueError("focus_point must lie in [0, 1] and bokeh_level must be 0 or above")
    return point.reshape(-1, 2), level


def checked_values(name: str, values: Any, channels: int) -> Tensor:
    """Return `values`, a tensor [b, channels, h, w] of floats.

    Raises:
        ValueError: It is something else, or a depth outside [0, 1].
    """
    is_float_4d = isinstance(values, Tensor) and values.is_floating_point() and values.ndim == 4
    if not is_float_4d or values.shape[1] != channels:
        found = type(values).__name__
        if isinstance(values, Tensor):
            found = f"{values.dtype} {list(values.shape)}"
        raise ValueError(
            f"{name} must be a tensor [b, {channels}, h, w] of floats in [0, 1], not {found}"
        )
    # Depth in metres must not pass for disparity; a resized map may overshoot a little
    if name == "depth" and not bool(((values > -0.01) & (values < 1.01)).all()):
        low, high = values.aminmax()
        raise ValueError(
            f"depth must be disparity in [0, 1], 0 far and 1 near, not {low:.3g} to {high:.3g}"
        )
    return values


def common_count(**counts: int) -> int:
    """Return the batch size, to which everything of size 1 is broadcast."""
    count = max(counts.values())
    if not set(counts.values()) <= {1, count}:
        given = ", ".join(f"{number} of {name}" for name, number in counts.items())
        raise ValueError(f"{given}: give one for all images or one for each")
    return count
