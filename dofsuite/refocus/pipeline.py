"""`RefocusPipeline`: any image in, the same scene focused at a chosen point with a chosen bokeh level out."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.backbones import Backbone, SpaceToDepthCodec, VaeCodec
from dofsuite.backbones.lora import load_lora
from dofsuite.refocus.camera import CameraEmbedder
from dofsuite.refocus.export import backbone_of, read_settings
from dofsuite.refocus.sampling import euler
from dofsuite.refocus.tokens import PositionIds, predict_velocity


class RefocusPipelineOutput(BaseOutput):
    """`images`: PIL images, or a tensor [b, 3, h, w] in [0, 1]."""

    images: list[Image.Image] | Tensor


SETTINGS_OF_A_CALL = ("guidance", "position_ids", "num_inference_steps", "size_px", "sees_depth")
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
        sees_depth: bool = True,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae, camera=camera, scheduler=scheduler)
        self.register_to_config(
            guidance=guidance,
            position_ids=position_ids,
            num_inference_steps=num_inference_steps,
            size_px=size_px,
            sees_depth=sees_depth,
        )

    @classmethod
    def from_export(cls, folder: str | Path, backbone: Backbone | None = None) -> RefocusPipeline:
        """Load an adapter that `dofsuite.fit` exported, on the base that it was trained on or on the one given.

        Args:
            folder: The export, or the run that it lies in.
            backbone: Another source of the same base, such as a local copy.

        Raises:
            UserError: The folder holds no adapter, or the base cannot be loaded.
        """
        settings = read_settings(Path(folder))
        modules = (backbone or backbone_of(settings)).load()
        load_lora(modules.transformer, settings["folder"])
        camera = CameraEmbedder.from_pretrained(
            settings["folder"] / "camera_embedder", use_safetensors=True, low_cpu_mem_usage=False
        )
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
        focus_point: tuple[float, float] | Tensor,
        bokeh_level: float | Tensor,
        depth: Tensor | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        output_type: Literal["pil", "pt"] = "pil",
    ) -> RefocusPipelineOutput:
        """Refocus.

        Args:
            image: PIL images, or a tensor [b, 3, h, w] in [0, 1]; brought to the trained number of pixels, shape kept.
            focus_point: (x, y) as fractions of width and height from the top left, or a tensor [b, 2].
            bokeh_level: Pixels of blur radius per unit of disparity at the camera's reference width, for the whole
                image's width; 0 is all in focus. A number or a tensor [b].
            depth: Disparity [b, 1, h, w] in [0, 1], 0 far and 1 near; none leaves the model to the image alone. A model
                that never saw depth in training is shown none, with a warning.
            num_inference_steps: Euler steps; the export's by default.
            generator: For the noise.
            output_type: `pil`, or `pt` for a tensor.

        Raises:
            ValueError: The focus point lies outside the image, or the level is below 0.
        """
        pixels = self.prepare_image(image)
        point = torch.as_tensor(focus_point, dtype=torch.float32, device=self.device).expand(len(pixels), 2)
        level = torch.as_tensor(bokeh_level, dtype=torch.float32, device=self.device).expand(len(pixels))
        if bool(((point < 0) | (point > 1)).any()) or not bool((level >= 0).all()):
            raise ValueError("focus_point must lie in [0, 1] and bokeh_level must be 0 or above")
        reference, depth_latent = self.encode(pixels), self.encode(self.prepare_depth(depth, pixels))
        steps = num_inference_steps or self.config.num_inference_steps
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
        noise = torch.randn(reference.shape, generator=generator, device=generator.device if generator else "cpu")
        velocity = partial(self.velocity, reference, depth_latent, self.camera(point, level))
        latent = euler(velocity, noise.to(self.device), self.scheduler.sigmas)
        return RefocusPipelineOutput(images=self.finish(self.codec.decode(latent).float(), output_type))

    def velocity(self, reference: Tensor, depth: Tensor, token: Tensor, latent: Tensor, t: Tensor) -> Tensor:
        """theta(z_t, t, I_r, D, c)."""
        pooled, guidance, ids = self.camera.pooled_text, self.config.guidance, self.config.position_ids
        return predict_velocity(self.transformer, latent, reference, depth, token, t, pooled, guidance, ids)

    def prepare_image(self, image: Image.Image | list[Image.Image] | Tensor) -> Tensor:
        """Return pixels [b, 3, h, w] in [0, 1] of about the trained number, sides whole tokens."""
        if not isinstance(image, Tensor):
            pictures = image if isinstance(image, list) else [image]
            arrays = [np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in pictures]
            image = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        image = image.to(self.device, torch.float32)
        size = self.working_size(*image.shape[-2:])
        if size != tuple(image.shape[-2:]):
            image = interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
        return image

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of about size_px ** 2 pixels and the same shape, in whole tokens.

        Paper: squares only. Here: any shape, because FLUX's positions allow it; only squares were trained.
        """
        token_px = 2 * self.codec.downscale
        scale = (self.config.size_px / (height * width) ** 0.5) if self.config.size_px else 1.0
        tokens = (max(1, round(side * scale / token_px)) for side in (height, width))
        return tuple(count * token_px for count in tokens)

    def prepare_depth(self, depth: Tensor | None, pixels: Tensor) -> Tensor:
        """Return the depth image [b, 3, h, w] in [0, 1]; zeros where there is none, as depth dropout trains it."""
        if depth is not None and not self.config.sees_depth:
            warnings.warn("This adapter was trained without depth: the depth given is not shown to it.", stacklevel=3)
        if depth is None or not self.config.sees_depth:
            return torch.zeros_like(pixels)
        depth = interpolate(depth.to(pixels), pixels.shape[-2:], mode="bilinear", antialias=True)
        return depth.expand(len(pixels), 3, -1, -1)

    def encode(self, image: Tensor) -> Tensor:
        """Encode display values in [0, 1]."""
        return self.codec.encode(image * 2 - 1).float()

    def finish(self, decoded: Tensor, output_type: str) -> Any:
        """Turn the codec's output into what was asked for."""
        pixels = ((decoded + 1) / 2).clamp(0, 1)
        if output_type == "pt":
            return pixels
        arrays = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(array) for array in arrays]
