"""`RefocusPipeline`: any image in, the same scene focused at a chosen point with a chosen bokeh level out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
)
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.backbones import Backbone, SpaceToDepthCodec, VaeCodec
from dofsuite.backbones.pipeline_io import (
    Generators,
    OutputImages,
    OutputType,
    check_output_arguments,
    latent_noise,
    to_output_type,
)
from dofsuite.images import image_values, resize
from dofsuite.refocus.camera_embedder import CameraEmbedder
from dofsuite.refocus.export import backbone_of, read_adapter, read_camera, read_settings
from dofsuite.refocus.flux_tokens import PositionIds, predict_velocity
from dofsuite.refocus.sampling import euler


class RefocusPipelineOutput(BaseOutput):
    """`images`: PIL images, a tensor [b, 3, h, w] or an array [b, h, w, 3]; both in [0, 1]."""

    images: OutputImages


StepCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]
"""(pipeline, number of the step, timestep, latents by name) -> latents by name: diffusers' `callback_on_step_end`."""

SETTINGS_OF_A_CALL = ("guidance", "position_ids", "num_inference_steps", "size_px", "uses_depth")
"""What of an export's settings is the pipeline's own."""


class RefocusPipeline(DiffusionPipeline):
    """Refocus images with FLUX, a refocus adapter and its camera token.

    Example:
        >>> pipe = RefocusPipeline.from_export("runs/quickstart")  # doctest: +SKIP
        >>> pipe(photo, focus_point=(0.3, 0.6), bokeh_level=12).images[0]  # doctest: +SKIP
    """

    model_cpu_offload_seq = "transformer->vae"

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL | SpaceToDepthCodec,
        camera: CameraEmbedder,
        scheduler: FlowMatchEulerDiscreteScheduler,
        guidance: float = 1.0,
        position_ids: PositionIds = "kontext",
        num_inference_steps: int = 28,
        size_px: int | None = 512,
        uses_depth: bool = True,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae, camera=camera, scheduler=scheduler)
        self.register_to_config(
            guidance=guidance,
            position_ids=position_ids,
            num_inference_steps=num_inference_steps,
            size_px=size_px,
            uses_depth=uses_depth,
        )

    @classmethod
    def from_export(cls, folder: str | Path, backbone: Backbone | None = None) -> RefocusPipeline:
        """Load an adapter that `dofsuite.fit` exported, on the base that it was trained on or on the one given.

        Args:
            folder: The export, or the run that it lies in.
            backbone: Another source of the same base, such as a local copy.

        Raises:
            UserError: The folder holds no adapter, a part of it cannot be read, or the base cannot
                be loaded.
        """
        settings = read_settings(Path(folder))
        camera = read_camera(settings["folder"])
        modules = (backbone or backbone_of(settings)).load()
        read_adapter(modules.transformer, settings["folder"])
        return cls(
            modules.transformer,
            getattr(modules.codec, "vae", modules.codec),
            camera,
            FlowMatchEulerDiscreteScheduler(shift=settings["time_shift"]),
            **{name: settings[name] for name in SETTINGS_OF_A_CALL},
        )

    @property
    def codec(self) -> VaeCodec | SpaceToDepthCodec:
        """The VAE behind the codec's interface."""
        return VaeCodec(self.vae) if isinstance(self.vae, AutoencoderKL) else self.vae

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
    ) -> RefocusPipelineOutput | tuple[OutputImages]:
        """Refocus; one photograph, depth, point or level serves all pictures of the call.

        Args:
            image: PIL images, turned upright by their EXIF, or a tensor [b, 3, h, w] in [0, 1];
                brought to the trained number of pixels, shape kept.
            focus_point: (x, y) as fractions of width and height from the top left, or [b, 2] of
                them.
            bokeh_level: Pixels of blur radius per unit of disparity where the image given, whole,
                has the camera's reference width as its long side, as the squares of training had; 0
                is all in focus. A number or [b].
            depth: Disparity [b, 1, h, w] in [0, 1], 0 far and 1 near; none leaves the model to the
                image alone. A model that never saw depth in training is shown none, with a warning.
            num_inference_steps: Euler steps; the export's by default.
            generator: For the noise; one, or one for each picture.
            output_type: `pil`, `pt` for a tensor or `np` for an array.
            return_dict: False for a tuple of the images alone.
            callback_on_step_end: As diffusers calls it, with (pipeline, step, timestep, {"latents":
                [b, c, h, w]}).

        Raises:
            ValueError: One of these cannot be, as a focus point outside the image, or their numbers
                do not agree.
        """
        steps = (
            self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        )
        if steps < 1:
            raise ValueError(f"num_inference_steps must be 1 or above, not {steps}")
        point, level = checked_camera(focus_point, bokeh_level)
        pixels, depths = (
            self.prepare_image(image),
            1 if depth is None else len(checked_values("depth", depth, 1)),
        )
        count = common_count(
            image=len(pixels), focus_point=len(point), bokeh_level=len(level), depth=depths
        )
        check_output_arguments(output_type, generator, count)
        given = self.encode(pixels), self.encode(self.prepare_depth(depth, pixels))
        reference, depth_latent = (latent.expand(count, -1, -1, -1) for latent in given)
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
        token = self.camera(
            point.expand(count, 2).to(pixels.device), level.expand(count).to(pixels.device)
        )
        velocity = partial(self.velocity, reference, depth_latent, token)
        after = (
            None
            if callback_on_step_end is None
            else partial(self._after_step, callback_on_step_end)
        )
        latent = euler(
            velocity,
            latent_noise(reference.shape, generator, pixels.device),
            self.scheduler.sigmas,
            after,
        )
        images = to_output_type(
            ((self.codec.decode(latent).float() + 1) / 2).clamp(0, 1), output_type
        )
        self.maybe_free_model_hooks()
        return RefocusPipelineOutput(images=images) if return_dict else (images,)

    def _after_step(self, callback: StepCallback, step: int, latent: Tensor) -> Tensor:
        """Let a callback see a step's latent, and change it."""
        return callback(self, step, self.scheduler.timesteps[step], {"latents": latent}).get(
            "latents", latent
        )

    def velocity(
        self, reference: Tensor, depth: Tensor, token: Tensor, latent: Tensor, t: Tensor
    ) -> Tensor:
        """theta(z_t, t, I_r, D, c)."""
        pooled, guidance = self.camera.pooled_text.to(latent.device), self.config.guidance
        ids = self.config.position_ids
        return predict_velocity(
            self.transformer, latent, reference, depth, token, t, pooled, guidance, ids
        )

    def prepare_image(self, image: Image.Image | list[Image.Image] | Tensor) -> Tensor:
        """Return pixels [b, 3, h, w] in [0, 1] of about the trained number, sides whole tokens."""
        if isinstance(image, Tensor):
            return self.fit(checked_values("image", image, 3))
        pictures = image if isinstance(image, list) else [image]
        values = [
            torch.from_numpy(image_values(picture)).permute(2, 0, 1)[None] for picture in pictures
        ]
        fitted = [self.fit(value) for value in values]
        if len({picture.shape for picture in fitted}) != 1:
            sizes = ", ".join(f"{value.shape[-1]}x{value.shape[-2]}" for value in values)
            raise ValueError(
                f"image: {len(values)} photographs of {sizes or 'no size'}; give 1 or more of one shape"
            )
        return torch.cat(fitted)

    def fit(self, image: Tensor) -> Tensor:
        """Bring pixels [b, 3, h, w] to about the trained number, sides whole tokens, where the networks work."""
        image = image.to(self._execution_device, torch.float32)
        return resize(image, *self.working_size(*image.shape[-2:]))

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of about size_px ** 2 pixels and the same shape, in whole tokens.

        Paper: squares only. Here: any shape, because FLUX's positions allow it; only squares were
            trained.
        """
        token_px = 2 * self.codec.downscale
        scale = (self.config.size_px / (height * width) ** 0.5) if self.config.size_px else 1.0
        tokens = (max(1, round(side * scale / token_px)) for side in (height, width))
        return tuple(count * token_px for count in tokens)

    def prepare_depth(self, depth: Tensor | None, pixels: Tensor) -> Tensor:
        """Return the depth images [n, 3, h, w] in [0, 1]; zeros where there is none, as depth dropout trains it."""
        if depth is not None and not self.config.uses_depth:
            warnings.warn(
                "This adapter was trained without depth: the depth given is not shown to it.",
                stacklevel=3,
            )
        if depth is None or not self.config.uses_depth:
            return torch.zeros_like(pixels)
        depth = interpolate(depth.to(pixels), pixels.shape[-2:], mode="bilinear", antialias=True)
        return depth.expand(-1, 3, -1, -1)

    def encode(self, image: Tensor) -> Tensor:
        """Encode display values in [0, 1]."""
        return self.codec.encode(image * 2 - 1).float()

    def save_pretrained(self, *arguments: Any, **options: Any) -> None:
        """Save as diffusers does, where the adapter is part of the weights.

        Raises:
            TypeError: It lies beside them: diffusers would write names that it does not read. Ours
                does not fuse it into a copy, because in bfloat16 the sum is rounded and the
                pictures change.
        """
        if any(".base_layer." in name for name in self.transformer.state_dict()):
            raise TypeError(
                "copy the folder that from_export read, which is the adapter; for a pipeline that from_pretrained "
                "reads, call transformer.fuse_lora() and transformer.unload_lora() first"
            )
        super().save_pretrained(*arguments, **options)


def checked_camera(focus_point: Any, bokeh_level: Any) -> tuple[Tensor, Tensor]:
    """Return points [n, 2] and levels [m] in float32, or say what is wrong with them."""
    point = torch.as_tensor(focus_point, dtype=torch.float32)
    level = torch.as_tensor(bokeh_level, dtype=torch.float32).reshape(-1)
    if point.ndim not in (1, 2) or point.shape[-1] != 2:
        raise ValueError(f"focus_point must be (x, y) or [b, 2], not {list(point.shape)}")
    # Asked so that nan, which is neither inside nor outside, is refused too.
    if not (
        bool(((point >= 0) & (point <= 1)).all()) and bool(((level >= 0) & level.isfinite()).all())
    ):
        raise ValueError("focus_point must lie in [0, 1] and bokeh_level must be 0 or above")
    return point.reshape(-1, 2), level


def checked_values(name: str, values: Any, channels: int) -> Tensor:
    """Return a tensor [b, channels, h, w] of floats, or say what it must be."""
    right = isinstance(values, Tensor) and values.is_floating_point() and values.ndim == 4
    if not right or values.shape[1] != channels:
        found = (
            f"{values.dtype} {list(values.shape)}"
            if isinstance(values, Tensor)
            else type(values).__name__
        )
        raise ValueError(
            f"{name} must be a tensor [b, {channels}, h, w] of floats in [0, 1], not {found}"
        )
    # Metres given for disparity would be drawn as something; a resized map may pass its ends by a
    # little.
    if name == "depth" and not bool(((values > -0.01) & (values < 1.01)).all()):
        low, high = values.aminmax()
        raise ValueError(
            f"depth must be disparity in [0, 1], 0 far and 1 near, not {low:.3g} to {high:.3g}"
        )
    return values


def common_count(**counts: int) -> int:
    """Return how many pictures there are, where one of anything serves all."""
    count = max(counts.values())
    if not set(counts.values()) <= {1, count}:
        given = ", ".join(f"{number} of {name}" for name, number in counts.items())
        raise ValueError(f"{given}: give one for all pictures or one for each")
    return count
