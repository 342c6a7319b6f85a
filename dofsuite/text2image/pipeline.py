"""`Text2ImagePipeline`: prompt -> scene; then any number of photographs of it by the lens alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from dofsuite.backbones import (
    Depth,
    Prediction,
    Sdxl,
    SdxlPromptEncoder,
    SpaceToDepthCodec,
    VaeCodec,
    WordEncoder,
)
from dofsuite.backbones.descriptors import exported_sdxl, rebuild
from dofsuite.backbones.hub import exported_part
from dofsuite.backbones.pipeline_io import (
    Generators,
    OutputImages,
    OutputType,
    check_output_arguments,
    step_noise,
    to_output_type,
)
from dofsuite.diffusion import scaled_linear_alphas_cumprod
from dofsuite.errors import UserError
from dofsuite.text2image.camera.exif import (
    EXIF_FOLDER,
    Exif,
    ExifEmbedder,
    ExifTimeEmbedding,
    Numbers,
    with_exif,
)
from dofsuite.text2image.camera.focus_predictor import FocusPredictor, check_focus
from dofsuite.text2image.camera.lens import Lens
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.dmd2.sampling import FEW_STEPS, fresh_noise, sample_image
from dofsuite.text2image.scene import Scene, scene_of
from dofsuite.text2image.settings import Text2ImageSettings


class Text2ImagePipeline(DiffusionPipeline):
    """Generate scenes with a few-step SDXL, and photograph them.

    Example:
        >>> pipe = Text2ImagePipeline.from_export("runs/quickstart_text2image")  # doctest: +SKIP
        >>> scene = pipe("a red ball on a blue floor", seed=0)  # doctest: +SKIP
        >>> pipe.photograph(scene, f_number=[1.8, 4, 22], focal_length_mm=50)[0]  # doctest: +SKIP
    """

    model_cpu_offload_seq = "unet->vae->depth_model->focus_predictor"
    _optional_components = ("depth_model", "focus_predictor")

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | SpaceToDepthCodec,
        prompt_encoder: SdxlPromptEncoder | WordEncoder,
        depth_model: nn.Module | None,
        focus_predictor: FocusPredictor | None,
        lens: Lens | None = Lens(),  # noqa: B008  (frozen)
        few_steps: Sequence[int] = FEW_STEPS,
        size_px: int = 1024,
        prediction: Prediction = "epsilon",
    ) -> None:
        """Assemble the parts; a UNet `with_exif` is EXIF-conditioned, depth and focus serve a lens.

        Raises:
            ValueError: A lens without a depth model or a focus predictor.
        """
        super().__init__()
        if lens is not None and (depth_model is None or focus_predictor is None):
            raise ValueError(
                "a lens needs a depth model and a focus predictor; without them pass lens=None"
            )
        self.register_modules(
            unet=unet,
            vae=vae,
            prompt_encoder=prompt_encoder,
            depth_model=depth_model,
            focus_predictor=focus_predictor,
        )
        self.register_to_config(few_steps=tuple(few_steps), size_px=size_px, prediction=prediction)
        self.lens = lens
        if isinstance(vae, SpaceToDepthCodec):  # accelerate can chain no module without parameters
            self.model_cpu_offload_seq = self.model_cpu_offload_seq.replace("->vae", "")

    @classmethod
    def from_export(
        cls, folder: str | Path, backbone: Sdxl | None = None, depth: Depth | None = None
    ) -> Text2ImagePipeline:
        """Load a generator that `dofsuite.fit` exported.

        Args:
            folder: The export, or the run that it lies in.
            backbone: Another source of the same SDXL's VAE and text encoders, such as a local copy.
            depth: Another source of the same depth model.

        Raises:
            UserError: The folder holds no generator or lacks a part, or a frozen network cannot be
                loaded.
        """
        place = Text2ImageSettings.find(folder)
        settings = Text2ImageSettings.read(place)
        # The generator, with the codec and prompt encoder of its base.
        modules = exported_sdxl(place, backbone or rebuild(settings.backbone))
        if settings.is_exif_conditioned:
            with_exif(modules.unet, exported_part(ExifEmbedder, place, EXIF_FOLDER))

        # The camera.
        lens = settings.build_lens()
        depth_model = focus_predictor = None
        if lens is not None:
            depth_model = (depth or rebuild(settings.depth)).load()
            focus_predictor = exported_part(FocusPredictor, place, "focus_predictor").eval()
        return cls(
            modules.unet,
            getattr(modules.codec, "vae", modules.codec),
            cast(SdxlPromptEncoder | WordEncoder, modules.prompts),
            depth_model,
            focus_predictor,
            lens,
            settings.few_steps,
            settings.size_px,
            modules.prediction,
        )

    @property
    def device(self) -> torch.device:
        # The UNet's; diffusers takes that of the first part by name, a depth model without one.
        return self.unet.device

    @property
    def codec(self) -> VaeCodec | SpaceToDepthCodec:
        return VaeCodec(self.vae) if isinstance(self.vae, AutoencoderKL) else self.vae

    @property
    def is_exif_conditioned(self) -> bool:
        return isinstance(self.unet.time_embedding, ExifTimeEmbedding)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        f_number: Numbers | None = None,
        focal_length_mm: Numbers | None = None,
        num_images_per_prompt: int = 1,
        height: int | None = None,
        width: int | None = None,
        seed: int | None = None,
        generator: Generators = None,
        output_type: OutputType = "pil",
    ) -> Scene:
        """Generate scenes, `num_images_per_prompt` of the first prompt first.

        Args:
            prompt: One or more.
            f_number: For an EXIF-conditioned generator only: one number for all images, or one for
                each.
            focal_length_mm: Likewise, in mm.
            num_images_per_prompt: Images of each prompt.
            height: In px; the trained size by default.
            width: In px.
            seed: An image depends on its prompt, its camera, the seed and its number among its
                prompt's images alone: repeat a prompt, with other cameras, for the same noise in
                all of them.
            generator: Draws the noise instead, one or one for each image; without either, torch's
                global one draws it.
            output_type: `pil`, `pt` for a tensor or `np` for an array.

        Raises:
            UserError: An impossible camera, one for a generator that is not EXIF-conditioned, or
                none for one that is.
            ValueError: A size that the network's levels do not divide, or an invalid number of
                images, `generator` or `output_type`.
        """
        prompts = _repeated(prompt, num_images_per_prompt)
        check_output_arguments(output_type, generator, len(prompts))

        # Conditioning: prompts, and the camera of an EXIF-conditioned generator.
        exif = self._exif(f_number, focal_length_mm, len(prompts))
        shape, device = self._latent_shape(height, width), self._execution_device
        denoiser = ConditionedDenoiser(
            unet=self.unet,
            prompt=self.prompt_encoder.encode(prompts).to(device),
            exif=None if exif is None else exif.stacked().to(device),
            downscale=self.codec.downscale,
            alphas_cumprod=scaled_linear_alphas_cumprod(),
            prediction=self.config.prediction,
        )

        # Noise of each step, by seed or by torch's generators.
        if seed is not None:
            indices = [i % num_images_per_prompt for i in range(len(prompts))]
            draw = fresh_noise(shape, seed, indices, "pipeline", device)
        else:
            draw = step_noise(generator, (len(prompts), *shape), device)

        image = sample_image(denoiser, draw, self.codec, self.config.few_steps)
        scene = self.scene(image, output_type)
        self.maybe_free_model_hooks()
        return scene

    @torch.no_grad()
    def scene(self, image_srgb: Tensor, output_type: OutputType = "pil") -> Scene:
        """Predict depth and focus of all-in-focus images [b, 3, h, w], display values in [0, 1]."""
        images = to_output_type(image_srgb, output_type)
        if self.lens is None:
            return Scene(images, image_srgb)
        return scene_of(image_srgb, self.depth_model, self.focus_predictor, images)

    @torch.no_grad()
    def photograph(
        self,
        scene: Scene,
        f_number: Numbers,
        focal_length_mm: Numbers,
        focus: float | Tensor | None = None,
        output_type: OutputType = "pil",
        frame_width_px: float | None = None,
    ) -> OutputImages:
        """Photograph scenes through the lens; no network is called.

        Args:
            scene: Of this pipeline.
            f_number: A number; or a list of n of them, a sweep.
            focal_length_mm: On the lens's sensor, in mm; a number, or as many as f-numbers.
            focus: Depth in focus on the depth model's scale, one for all or one for each scene; by
                default the predicted one.
            output_type: `pil`, `pt` for a tensor or `np` for an array.
            frame_width_px: Long side of the uncropped frame, in pixels of the scene, where it is
                known of a real photograph; by default that of the lens's `frame_ratio`, of which
                a square is the center.

        Returns:
            b images or [b, 3, h, w] in [0, 1]; for a sweep, b lists of n images or [b, n, 3, h, w];
            of `np`, the colors are last.

        Raises:
            UserError: An impossible camera, focus or frame, or a generator without a lens.
            ValueError: An invalid `output_type`.
        """
        check_output_arguments(output_type)
        if self.lens is None:
            raise UserError(
                "photograph: this generator has no lens; give f_number and focal_length_mm with "
                "the prompt."
            )
        cameras = Exif.checked(f_number, focal_length_mm)
        image = scene.image_srgb
        if focus is not None:
            assert scene.depth is not None
            check_focus(focus, scene.depth)
            distance = torch.as_tensor(focus, dtype=torch.float32).to(image.device)
            scene = replace(scene, focus_distance=distance.expand(len(image)))

        # One batch of photographs for each camera.
        height, width = image.shape[-2:]
        width_px = self.lens.frame_width_px(height, width, known_px=frame_width_px)
        photographs = []
        for camera in zip(*cameras, strict=True):
            exif = Exif(*(number.to(image.device).expand(len(image)) for number in camera))
            photographs.append(self.lens.photograph(scene, exif, width_px).clamp(0, 1))

        is_sweep = any(torch.as_tensor(numbers).ndim for numbers in (f_number, focal_length_mm))
        sweep = torch.stack(photographs, 1)  # [b, n, 3, h, w]
        return to_output_type(sweep if is_sweep else sweep[:, 0], output_type)

    def save_pretrained(self, *arguments: object, **options: object) -> None:
        raise TypeError(
            "copy the folder that from_export read; a diffusers folder has no place for depth and "
            "prompts"
        )

    def _exif(
        self, f_number: Numbers | None, focal_length_mm: Numbers | None, count: int
    ) -> Exif | None:
        if not self.is_exif_conditioned:
            if f_number is not None or focal_length_mm is not None:
                raise UserError(
                    "f_number: this generator is not EXIF-conditioned; give the camera to "
                    "photograph(scene, ...)."
                )
            return None
        if f_number is None or focal_length_mm is None:
            raise UserError(
                "f_number: this generator is EXIF-conditioned; give f_number and focal_length_mm."
            )
        # Numbers as a user wrote them: one for all images, or one for each.
        exif = Exif.checked(f_number, focal_length_mm)
        if len(exif.f_number) not in (1, count):
            raise UserError(
                f"f_number: {len(exif.f_number)} numbers for {count} images; give one for all or "
                "one for each."
            )
        return Exif(*(numbers.expand(count) for numbers in exif))

    def _latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """Return (channels, height, width) of one image's latent."""
        height, width = (self.config.size_px if side is None else side for side in (height, width))
        downscale = self.codec.downscale
        multiple = downscale * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if height < 1 or width < 1 or height % multiple or width % multiple:
            raise ValueError(
                f"height and width must be multiples of {multiple}, not {height} and {width}"
            )
        return self.unet.config.in_channels, height // downscale, width // downscale


def _repeated(prompt: str | list[str], count: int) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not prompts or count < 1:
        raise ValueError(
            f"prompt: {count} images of {len(prompts)} prompts are none; give 1 or more of each"
        )
    return [text for text in prompts for _ in range(count)]
