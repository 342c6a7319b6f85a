"""Where a method's pictures come from: the interface, and SDXL as it is, in many steps.

A `Generator` is a light description with plain values, which a method file names; `load` gives a
`Sampler`: one picture for each camera that is asked for, all from one noise, which is a function of
    the seed alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.backbones import PretrainedSdxl, Sdxl, SdxlModules
from dofsuite.baselines.ddim import ddim, trailing_times
from dofsuite.diffusion import scaled_linear_alphas_cumprod
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.dmd2.sampling import fresh_noise


class SampleRequest(NamedTuple):
    """One prompt, and the cameras that it is to be photographed with."""

    prompt: str
    cameras: Exif
    """Of n pictures."""
    seed: int
    """Of the one noise that all of them begin from."""


# What is asked -> pictures [n, 3, h, w], display values in [0, 1], on the device of the networks.
Sampler = Callable[[SampleRequest], Tensor]


class Generator(ABC):
    """A light description of where pictures come from."""

    @abstractmethod
    def load(self, device: torch.device) -> Sampler:
        """Load the networks.

        Raises:
            UserError: They cannot be loaded, or know no camera.
        """

    def sources(self) -> dict[str, Any]:
        """Return what the pictures depend on beside the description: the trained weights that it reads."""
        return {}


def first_noise(shape: tuple[int, ...], asked: SampleRequest, device: torch.device) -> Tensor:
    """Return the same noise for each of the cameras, the one that `Text2ImagePipeline` begins from too."""
    return fresh_noise(shape, asked.seed, [0] * len(asked.cameras.f_number), "pipeline", device)(0)


def in_batches(make: Sampler, asked: SampleRequest, count: int) -> Tensor:
    """Paint at most `count` pictures at once; what comes out does not depend on the machine, only on `count`."""
    f_number, focal_mm = (numbers.split(count) for numbers in asked.cameras)
    parts = [Exif(*part) for part in zip(f_number, focal_mm, strict=True)]
    return torch.cat([make(asked._replace(cameras=part)) for part in parts])


def check_sampling(steps: int, guidance: float, size_px: int, at_once: int) -> None:
    """Refuse numbers that nothing can be sampled with (ValueError, in the words of the method file)."""
    trailing_times(steps)
    if not guidance >= 0:
        raise ValueError(f"guidance must be 0 or above, not {guidance}")
    if size_px < 1 or at_once < 1:
        raise ValueError(f"size_px and at_once must be above 0, not {size_px} and {at_once}")


class SampledSdxl(Generator):
    """SDXL as it is, in many steps with guidance; what it is told of the camera are words."""

    def __init__(
        self,
        backbone: Sdxl = PretrainedSdxl(dtype="bfloat16"),  # noqa: B008  (a light description, never changed)
        words: str = "{prompt}, {focal_length_mm:g}mm, f/{f_number:g}",
        steps: int = 50,
        guidance: float = 5.0,
        size_px: int = 1024,
        at_once: int = 4,
    ) -> None:
        """Describe the sampling.

        Args:
            backbone: Which SDXL.
            words: The prompt as SDXL reads it, with {prompt}, {f_number} and {focal_length_mm}
                (Python's format).
                Paper: EXIF in the prompt (*stated*); its form is *ours*.
            steps: Of DDIM (*ours*).
            guidance: Classifier-free (*ours*: diffusers' default for SDXL).
            size_px: Side of the pictures.
            at_once: Pictures sampled together.
        """
        check_sampling(steps, guidance, size_px, at_once)
        self.backbone, self.words, self.steps, self.guidance = backbone, words, steps, guidance
        self.size_px, self.at_once = size_px, at_once
        try:
            self.text("a prompt", 1.8, 50.0)
        except (KeyError, IndexError, ValueError):
            raise ValueError(
                f"words: {words!r} has a field beside prompt, f_number and focal_length_mm"
            ) from None

    def text(self, prompt: str, f_number: float, focal_length_mm: float) -> str:
        """Return what SDXL is told."""
        return self.words.format(prompt=prompt, f_number=f_number, focal_length_mm=focal_length_mm)

    def load(self, device: torch.device) -> Sampler:
        """Load SDXL.

        Raises:
            UserError: It cannot be loaded.
        """
        modules = self.backbone.load()
        modules.unet.to(device)
        modules.codec.to(device)
        return lambda asked: in_batches(
            lambda part: self._sample(modules, part, device), asked, self.at_once
        )

    @torch.no_grad()
    def _sample(self, modules: SdxlModules, asked: SampleRequest, device: torch.device) -> Tensor:
        # rounded, since float32's f/1.8 is 1.79999995
        cameras = [
            [round(number, 6) for number in camera] for camera in asked.cameras.stacked().tolist()
        ]
        texts = [self.text(asked.prompt, *camera) for camera in cameras]
        prompt = modules.prompts.encode(texts).to(device)
        codec, alphas = modules.codec, scaled_linear_alphas_cumprod()
        denoiser = ConditionedDenoiser(
            modules.unet, prompt, None, codec.downscale, alphas, modules.prediction
        )
        return sampled(denoiser, codec, asked, self.size_px, self.steps, self.guidance, device)


@torch.no_grad()
def sampled(
    denoiser: ConditionedDenoiser,
    codec: Any,
    asked: SampleRequest,
    size_px: int,
    steps: int,
    guidance: float,
    device: torch.device,
) -> Tensor:
    """Sample pictures by DDIM with guidance, from one noise."""
    side = size_px // codec.downscale
    noise = first_noise((codec.latent_channels, side, side), asked, device)

    def noise_at(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser.guided_noise(x_t, t, guidance)

    latent = ddim(noise_at, noise, denoiser.alphas_cumprod, steps)
    return ((codec.decode(latent).float() + 1) / 2).clamp(0, 1)
