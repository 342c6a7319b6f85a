"""Where a method's images come from: the interface, and SDXL as it is, in many steps.

A `Generator` is a light description with plain values, which a method file names; `load` gives a
`Sampler`: one image for each camera of a request, all from one noise, which is a function of the
seed alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from dofsuite.backbones import Codec, PretrainedSdxl, Sdxl, SdxlModules
from dofsuite.baselines.ddim import ddim, trailing_times
from dofsuite.diffusion import scaled_linear_alphas_cumprod
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.dmd2.sampling import fresh_noise


class SampleRequest(NamedTuple):
    """One prompt, and the cameras that it is photographed with."""

    prompt: str
    # Of n images.
    cameras: Exif
    # Of the one noise that all of them start from.
    seed: int


# Request -> images [n, 3, h, w], display values in [0, 1], on the device of the networks.
Sampler = Callable[[SampleRequest], Tensor]


class Generator(ABC):
    """A light description of where images come from."""

    @abstractmethod
    def load(self, device: torch.device) -> Sampler:
        """Load the networks.

        Raises:
            UserError: They cannot be loaded, or have no camera.
        """

    def sources(self) -> dict[str, Any]:
        """Return what the images depend on besides the description: the trained weights."""
        return {}


def in_batches(sample: Sampler, request: SampleRequest, batch_size: int) -> Tensor:
    """Sample at most `batch_size` images at once, so that results do not depend on the machine."""
    f_number, focal_mm = (numbers.split(batch_size) for numbers in request.cameras)
    parts = [Exif(*part) for part in zip(f_number, focal_mm, strict=True)]
    return torch.cat([sample(request._replace(cameras=part)) for part in parts])


def check_sampling(steps: int, guidance_scale: float, size_px: int, batch_size: int) -> None:
    trailing_times(steps)
    if not guidance_scale >= 0:
        raise ValueError(f"guidance_scale must be 0 or above, not {guidance_scale}")
    if size_px < 1 or batch_size < 1:
        raise ValueError(f"size_px and batch_size must be above 0, not {size_px} and {batch_size}")


# Words for an aperture, the widest first: f-number below which they hold (*ours*; the paper's are
# not published, but for "shallow depth of field").
DEPTH_OF_FIELD = (
    (2.4, "extremely shallow depth of field, very blurred background"),
    (4.8, "shallow depth of field, blurred background"),
    (9.6, "moderate depth of field, slightly blurred background"),
    (19.0, "deep depth of field, nearly everything in focus"),
    (float("inf"), "very deep depth of field, everything in sharp focus"),
)


def depth_of_field_in_words(f_number: float) -> str:
    """Describe an aperture as a photographer would in prose.

    >>> depth_of_field_in_words(2.8)
    'shallow depth of field, blurred background'
    """
    return next(words for below, words in DEPTH_OF_FIELD if f_number < below)


class SampledSdxl(Generator):
    """SDXL as it is, in many steps with guidance; the camera stands in the prompt."""

    def __init__(
        self,
        backbone: Sdxl = PretrainedSdxl(dtype="bfloat16"),  # noqa: B008  (a light description)
        prompt_template: str = "{prompt}, {focal_length_mm:g}mm, f/{f_number:g}",
        steps: int = 50,
        guidance_scale: float = 5.0,
        size_px: int = 1024,
        batch_size: int = 4,
    ) -> None:
        """Configure the sampling.

        Args:
            backbone: Which SDXL.
            prompt_template: SDXL's prompt, with {prompt}, {f_number}, {focal_length_mm} and
                {depth_of_field}, the aperture in words (Python's format). Paper: EXIF in the
                prompt, and prose (*stated*); their form is *ours*.
            steps: Of DDIM (*ours*).
            guidance_scale: Classifier-free (*ours*: diffusers' default for SDXL).
            size_px: Side of the images.
            batch_size: Images sampled together.
        """
        check_sampling(steps, guidance_scale, size_px, batch_size)
        self.backbone, self.prompt_template = backbone, prompt_template
        self.steps, self.guidance_scale = steps, guidance_scale
        self.size_px, self.batch_size = size_px, batch_size
        try:
            self.text("a prompt", 1.8, 50.0)
        except (KeyError, IndexError, ValueError):
            raise ValueError(
                f"prompt_template: {prompt_template!r} has a field other than prompt, f_number, "
                "focal_length_mm and depth_of_field"
            ) from None

    def text(self, prompt: str, f_number: float, focal_length_mm: float) -> str:
        return self.prompt_template.format(
            prompt=prompt,
            f_number=f_number,
            focal_length_mm=focal_length_mm,
            depth_of_field=depth_of_field_in_words(f_number),
        )

    def load(self, device: torch.device) -> Sampler:
        modules = self.backbone.load()
        modules.unet.to(device)
        cast(nn.Module, modules.codec).to(device)
        return lambda request: in_batches(
            lambda part: self._sample(modules, part, device), request, self.batch_size
        )

    @torch.no_grad()
    def _sample(self, modules: SdxlModules, request: SampleRequest, device: torch.device) -> Tensor:
        # Rounded, since float32's f/1.8 is 1.79999995
        texts = [
            self.text(request.prompt, round(f_number, 6), round(focal_mm, 6))
            for f_number, focal_mm in request.cameras.stacked().tolist()
        ]
        denoiser = ConditionedDenoiser(
            unet=modules.unet,
            prompt=modules.prompts.encode(texts).to(device),
            exif=None,
            downscale=modules.codec.downscale,
            alphas_cumprod=scaled_linear_alphas_cumprod(),
            prediction=modules.prediction,
        )
        return sample_ddim(
            denoiser, modules.codec, request, self.size_px, self.steps, self.guidance_scale
        )


@torch.no_grad()
def sample_ddim(
    denoiser: ConditionedDenoiser,
    codec: Codec,
    request: SampleRequest,
    size_px: int,
    steps: int,
    guidance_scale: float,
) -> Tensor:
    """Sample images by DDIM with guidance, from the noise that `Text2ImagePipeline` starts from."""
    side = size_px // codec.downscale
    indices = [0] * len(request.cameras.f_number)  # one noise for all cameras
    shape, device = (codec.latent_channels, side, side), denoiser.prompt.tokens.device
    noise = fresh_noise(shape, request.seed, indices, "pipeline", device)(0)

    guided_noise = partial(denoiser.guided_noise, guidance_scale=guidance_scale)
    latent = ddim(guided_noise, noise, denoiser.alphas_cumprod, steps)
    return ((codec.decode(latent).float() + 1) / 2).clamp(0, 1)
