"""Generators that `dofsuite.fit` trained: few-step ones, and SDXL with camera tokens."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dofsuite.backbones.export_settings import ExportSettings
from dofsuite.backbones.sdxl.adapters import ControlledUnet
from dofsuite.baselines.camera_tokens.export import load
from dofsuite.baselines.camera_tokens.settings import CameraTokensSettings
from dofsuite.baselines.camera_tokens.tokens import inverse_depth_image
from dofsuite.diffusion import scaled_linear_alphas_cumprod
from dofsuite.evaluation.fingerprint import weight_hashes
from dofsuite.evaluation.text2image.generators import (
    Generator,
    Sampler,
    SampleRequest,
    check_sampling,
    in_batches,
    sample_ddim,
)
from dofsuite.text2image import Exif, Text2ImagePipeline
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.settings import Text2ImageSettings


def sources_of(model: str, settings: type[ExportSettings]) -> dict[str, Any]:
    # An export's weights and its settings as they stand in the file
    folder = settings.find(model)
    return {
        "weights": weight_hashes(folder),
        "export": json.loads((folder / settings.FILE).read_text()),
    }


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
        if not self.all_in_focus:
            settings = Text2ImageSettings.read(Text2ImageSettings.find(self.model))
            settings.check_has_camera(self.model)
        pipe = Text2ImagePipeline.from_export(self.model).to(device)
        pipe.set_progress_bar_config(disable=True)
        return lambda request: self._sample(pipe, request)

    def sources(self) -> dict[str, Any]:
        return sources_of(self.model, Text2ImageSettings)

    def _sample(self, pipe: Text2ImagePipeline, request: SampleRequest) -> Tensor:
        # One scene; of an EXIF-conditioned generator one for each camera, from the same noise.
        cameras, count = request.cameras, len(request.cameras.f_number)
        if pipe.is_exif_conditioned:
            prompts = [request.prompt] * count
            scene = pipe(prompts, *cameras, seed=request.seed, output_type="pt")
        else:
            scene = pipe(request.prompt, seed=request.seed, output_type="pt")
        if pipe.lens is None or self.all_in_focus:
            return scene.image_srgb.expand(count, -1, -1, -1)

        # Its photographs: every camera of the one scene, or each scene by its own camera.
        sweeps = cast(Tensor, pipe.photograph(scene, *cameras, output_type="pt"))
        if not pipe.is_exif_conditioned:
            return sweeps[0]
        return torch.stack([sweeps[i, i] for i in range(count)])


class CameraTokensGenerator(Generator):
    """SDXL conditioned on camera tokens and, with a ControlNet, on depth."""

    def __init__(
        self,
        model: str,
        steps: int = 50,
        guidance_scale: float = 5.0,
        size_px: int | None = None,
        batch_size: int = 4,
        control_scale: float = 1.0,
    ) -> None:
        """Configure the sampling.

        Args:
            model: A run of `dofsuite.baselines.CameraTokensModule`, or its export.
            steps: Of DDIM (*ours*).
            guidance_scale: Classifier-free, of text and camera together (*ours*).
            size_px: Side of the images; null is the trained size.
            batch_size: Images sampled together.
            control_scale: Factor of the ControlNet's residuals. Its depth is that of the same
                network's image without camera tokens, from the same noise and without the
                ControlNet (*inferred*: the paper conditions on depth, and does not say of which
                image).
        """
        check_sampling(steps, guidance_scale, size_px or 1, batch_size)
        self.model, self.steps = model, steps
        self.guidance_scale, self.control_scale = guidance_scale, control_scale
        self.size_px, self.batch_size = size_px, batch_size

    def load(self, device: torch.device) -> Sampler:
        networks = load(Path(self.model)).to(device)
        settings = CameraTokensSettings.read(CameraTokensSettings.find(self.model))
        size_px = self.size_px or settings.size_px

        def sample(request: SampleRequest) -> Tensor:
            image = None
            if networks.depth is not None:
                # The ControlNet's image is that of a sample without camera tokens.
                nans = [torch.full((1,), torch.nan)] * 2
                without_camera = sample_batch(request._replace(cameras=Exif(*nans)), None)
                image = inverse_depth_image(networks.depth(without_camera))
            return in_batches(lambda part: sample_batch(part, image), request, self.batch_size)

        def sample_batch(request: SampleRequest, depth_image: Tensor | None) -> Tensor:
            # Text and camera tokens
            cameras = Exif(*(numbers.to(device) for numbers in request.cameras))
            texts = [request.prompt] * len(cameras.f_number)
            prompt = networks.prompts.encode(texts).to(device)

            # UNet, with a ControlNet for an image [1, 3, h, w]
            unet: Any = networks.unet
            if depth_image is not None:
                image = depth_image.expand(len(texts), -1, -1, -1)
                unet = ControlledUnet(unet, networks.controlnet, image, self.control_scale)
            denoiser = ConditionedDenoiser(
                unet=unet,
                prompt=networks.tokens.appended_to(prompt, cameras),
                exif=None,
                downscale=networks.codec.downscale,
                alphas_cumprod=scaled_linear_alphas_cumprod(),
                prediction=networks.prediction,
            )
            return sample_ddim(
                denoiser, networks.codec, request, size_px, self.steps, self.guidance_scale
            )

        return torch.no_grad()(sample)

    def sources(self) -> dict[str, Any]:
        return sources_of(self.model, CameraTokensSettings)
