"""Where a method's pictures come from: generators of `dofsuite.fit`, few-step ones and camera tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dofsuite.backbones.sdxl.adapters import ControlledUnet
from dofsuite.baselines.camera_tokens.export import CameraTokensNetworks, load
from dofsuite.baselines.camera_tokens.settings import CameraTokensSettings
from dofsuite.baselines.camera_tokens.tokens import inverse_depth_image
from dofsuite.diffusion import scaled_linear_alphas_cumprod
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import weight_hashes
from dofsuite.evaluation.text2image.generators import (
    Generator,
    Sampler,
    SampleRequest,
    check_sampling,
    in_batches,
    sampled,
)
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.pipeline import Text2ImagePipeline
from dofsuite.text2image.settings import Text2ImageSettings


class ExportedGenerator(Generator):
    """A few-step generator that `dofsuite.fit` trained, with its lens if it has one."""

    def __init__(self, model: str, all_in_focus: bool = False) -> None:
        """Name the generator.

        Args:
            model: A run of `dofsuite.text2image.Text2Image`, or its export.
            all_in_focus: Leave its own lens out: its scenes are for another lens.
        """
        self.model, self.all_in_focus = model, all_in_focus

    def load(self, device: torch.device) -> Sampler:
        """Load the generator.

        Raises:
            UserError: The folder holds none, or one that has neither a lens nor EXIF.
        """
        if not self.all_in_focus:
            settings = Text2ImageSettings.read(Text2ImageSettings.find(self.model))
            settings.check_has_camera(self.model)
        pipe = Text2ImagePipeline.from_export(self.model).to(device)
        pipe.set_progress_bar_config(disable=True)
        return lambda asked: self._sample(pipe, asked)

    def sources(self) -> dict[str, Any]:
        """Return the export's settings and weights."""
        folder = Text2ImageSettings.find(self.model)
        settings = json.loads((folder / Text2ImageSettings.FILE).read_text())
        return {"weights": weight_hashes(folder), "export": settings}

    def _sample(self, pipe: Text2ImagePipeline, asked: SampleRequest) -> Tensor:
        cameras, count = asked.cameras, len(asked.cameras.f_number)
        if pipe.is_exif_conditioned:  # every aperture is a generation of its own
            scene = pipe([asked.prompt] * count, *cameras, seed=asked.seed, output_type="pt")
        else:
            scene = pipe(asked.prompt, seed=asked.seed, output_type="pt")
        if pipe.lens is None or self.all_in_focus:
            return scene.image_srgb.expand(count, -1, -1, -1)
        if not pipe.is_exif_conditioned:
            return pipe.photograph(scene, *cameras, output_type="pt")[0]
        sweeps = pipe.photograph(scene, *cameras, output_type="pt")
        return torch.stack([sweeps[i, i] for i in range(count)])


class CameraTokensGenerator(Generator):
    """SDXL that reads camera tokens (Camera Settings as Tokens), and where it was trained so, sees a depth too."""

    def __init__(
        self,
        model: str,
        steps: int = 50,
        guidance: float = 5.0,
        size_px: int | None = None,
        at_once: int = 4,
        control_scale: float = 1.0,
    ) -> None:
        """Describe the sampling.

        Args:
            model: A run of `dofsuite.baselines.camera_tokens.module.CameraTokensModule`, or its export.
            steps: Of DDIM (*ours*).
            guidance: Classifier-free, of text and camera together (*ours*).
            size_px: Side of the pictures; null is the trained size.
            at_once: Pictures sampled together.
            control_scale: Factor of the ControlNet's residuals. The depth that it sees is that of
                the same network's picture without camera tokens, from the same noise and without
                the ControlNet (*inferred*: the paper conditions on depth, and does not say of which
                picture).
        """
        check_sampling(steps, guidance, size_px or 1, at_once)
        self.model, self.steps, self.guidance = model, steps, guidance
        self.size_px, self.at_once, self.control_scale = size_px, at_once, control_scale

    def load(self, device: torch.device) -> Sampler:
        """Load SDXL and what was trained for it.

        Raises:
            UserError: The folder holds no camera tokens, or SDXL cannot be loaded.
        """
        networks = load(Path(self.model)).to(device)
        folder = CameraTokensSettings.find(self.model)
        settings = CameraTokensSettings.read(folder)
        size_px = self.size_px or settings.size_px

        def sample(request: SampleRequest) -> Tensor:
            image = None
            if networks.controlnet is not None:
                image = self._depth_image(networks, request, size_px, device)
            return in_batches(
                lambda part: self._sample(networks, part, image, size_px, device),
                request,
                self.at_once,
            )

        return sample

    def sources(self) -> dict[str, Any]:
        """Return the export's settings and weights."""
        folder = CameraTokensSettings.find(self.model)
        settings = json.loads((folder / CameraTokensSettings.FILE).read_text())
        return {"weights": weight_hashes(folder), "export": settings}

    @torch.no_grad()
    def _depth_image(
        self,
        networks: CameraTokensNetworks,
        request: SampleRequest,
        size_px: int,
        device: torch.device,
    ) -> Tensor:
        nans = (torch.full((1,), torch.nan) for _ in request.cameras)
        unconditional = request._replace(cameras=Exif(*nans))
        image = self._sample(networks, unconditional, None, size_px, device)
        assert networks.depth is not None
        return inverse_depth_image(networks.depth(image))

    @torch.no_grad()
    def _sample(
        self,
        networks: CameraTokensNetworks,
        request: SampleRequest,
        depth_image: Tensor | None,
        size_px: int,
        device: torch.device,
    ) -> Tensor:
        """Sample images; `depth_image` [1, 3, h, w] is the ControlNet's."""
        # Text and camera tokens.
        cameras = Exif(*(numbers.to(device) for numbers in request.cameras))
        texts = [request.prompt] * len(cameras.f_number)
        prompt = networks.prompts.encode(texts).to(device)
        prompt = networks.tokens.appended_to(prompt, cameras)

        unet: Any = networks.unet
        if depth_image is not None:
            image = depth_image.expand(len(texts), -1, -1, -1)
            unet = ControlledUnet(unet, networks.controlnet, image, self.control_scale)
        codec = networks.codec
        denoiser = ConditionedDenoiser(
            unet, prompt, None, codec.downscale, scaled_linear_alphas_cumprod(), networks.prediction
        )
        return sampled(denoiser, codec, request, size_px, self.steps, self.guidance, device)
