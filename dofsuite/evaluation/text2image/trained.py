"""Where a method's pictures come from: generators of `dofsuite.fit`, few-step ones and camera tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dofsuite.backbones.sdxl.adapters import ControlledUnet
from dofsuite.baselines.camera_tokens.export import CameraTokensModel, load
from dofsuite.baselines.camera_tokens.export import read_settings as read_tokens
from dofsuite.baselines.camera_tokens.module import nearness
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
from dofsuite.text2image.settings import FILE, export_folder


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
        pipe = Text2ImagePipeline.from_export(self.model).to(device)
        pipe.set_progress_bar_config(disable=True)
        if pipe.lens is None and not pipe.is_exif_conditioned and not self.all_in_focus:
            raise UserError(
                f"{self.model}: model: it has neither a lens nor EXIF, so no camera; name another run."
            )
        return lambda asked: self._sample(pipe, asked)

    def sources(self) -> dict[str, Any]:
        """Return the export's settings and weights."""
        folder = export_folder(Path(self.model))
        settings = json.loads((folder / FILE).read_text())
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
            model: A run of `dofsuite.baselines.camera_tokens.module.CameraSettings`, or its export.
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
        model = load(Path(self.model)).to(device)

        def paint(asked: SampleRequest) -> Tensor:
            picture = None if model.controlnet is None else self._seen_depth(model, asked, device)
            return in_batches(
                lambda part: self._sample(model, part, picture, device), asked, self.at_once
            )

        return paint

    def sources(self) -> dict[str, Any]:
        """Return the export's settings and weights."""
        settings = read_tokens(Path(self.model))
        return {"weights": weight_hashes(settings.pop("folder")), "export": settings}

    @torch.no_grad()
    def _seen_depth(
        self, model: CameraTokensModel, asked: SampleRequest, device: torch.device
    ) -> Tensor:
        untold = asked._replace(cameras=Exif(*(torch.full((1,), torch.nan) for _ in asked.cameras)))
        return nearness(model.depth(self._sample(model, untold, None, device)))

    @torch.no_grad()
    def _sample(
        self,
        model: CameraTokensModel,
        asked: SampleRequest,
        picture: Tensor | None,
        device: torch.device,
    ) -> Tensor:
        cameras = Exif(*(numbers.to(device) for numbers in asked.cameras))
        texts = [asked.prompt] * len(cameras.f_number)
        prompt = model.prompts.encode(texts).to(device)
        prompt = model.tokens.appended_to(prompt, cameras)
        unet = model.unet
        if picture is not None:
            unet = ControlledUnet(
                unet, model.controlnet, picture.expand(len(texts), -1, -1, -1), self.control_scale
            )
        alphas = scaled_linear_alphas_cumprod()
        denoiser = ConditionedDenoiser(
            unet, prompt, None, model.codec.downscale, alphas, model.prediction
        )
        size_px = self.size_px or model.size_px
        return sampled(denoiser, model.codec, asked, size_px, self.steps, self.guidance, device)
