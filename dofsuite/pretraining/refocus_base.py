"""Pretraining of the small base model: restoration, fog around a point, and unprompted blur.

A pretrained FLUX knows photographs and follows prompts. The small base model shipped with dofsuite
learns both from synthetic scenes (*ours*), each task marked by the prompt token:

- restoration: the reference is blurred, the target all in focus; the prompt is the word "clear",
  the token's fourth number;
- fog: the prompt is a point and a level, the target the restored reference in fog that is clear
  around the depth of the point;
- no prompt: photographs with rendered blur.

It is never trained on how focus and blur follow from a camera: the quickstart's adapter and camera
token learn that on top of it.
"""

import re
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite import diffusion
from dofsuite.data import Batch
from dofsuite.files import write_json
from dofsuite.pretraining.restoration import RestorationProbe
from dofsuite.refocus.camera_embedder import CameraEmbedder
from dofsuite.refocus.cameras import NUM_UNIFORMS, draw_cameras
from dofsuite.refocus.module import Example, Refocus
from dofsuite.refocus.rendering import input_width_px, photograph
from dofsuite.refocus.sampling import euler
from dofsuite.training import run_folder

# Levels of a camera that stand for the absence of a prompt and for the word "clear".
UNPROMPTED, CLEAR = -1.0, -2.0
# Number of the prompt token that says "clear".
CLEAR_NUMBER = 3


def fog(
    image: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    clear_at: Float[Tensor, "b"],
    density: Float[Tensor, "b"],
) -> Float[Tensor, "b 3 h w"]:
    """Fade to mid-gray with the distance to a depth: w I + (1 - w) / 2, w = exp(-density |D - d|).

    The law of a homogeneous haze (Koschmieder), with the distance to a plane instead of to the eye.

    Args:
        image: Display values in [0, 1].
        disparity: 0 far to 1 near.
        clear_at: Disparity d that is unchanged.
        density: Extinction per unit of disparity, 0 or above.
    """
    distance = (disparity - clear_at[:, None, None, None]).abs()
    transmission = torch.exp(-density[:, None, None, None] * distance)
    return transmission * image + (1 - transmission) / 2


class RefocusPretraining(Refocus):
    """Trains all weights of a small base model (*ours*)."""

    def __init__(
        self,
        restoration_share: float = 0.45,
        prompt_share: float = 0.35,
        density_per_level: float = 0.25,
        train_ends: bool = False,
        **options: Any,
    ) -> None:
        """Store the configuration.

        Args:
            restoration_share: Share of examples whose prompt is "clear": reference as drawn, target
                all in focus.
            prompt_share: Share of examples whose prompt is a point and a level: the target is all
                in focus and in fog that is clear at the depth of the point. The others are
                photographs with blur, unprompted.
            density_per_level: Density of the fog for a level of 1.
            train_ends: Whether the first and the last projection and the adaptive norms are trained
                too. Through them everything passes that a base of `start: copying` copies, and in
                the first steps of Adam they lose it.
            options: See `Refocus`; a base has no adapter (`lora: null`) and no stacking constraint
                (weight 0).
        """
        super().__init__(**options)
        for name, share in {
            "restoration_share": restoration_share,
            "prompt_share": prompt_share,
            "restoration_share + prompt_share": restoration_share + prompt_share,
        }.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: a share between 0 and 1 is expected, not {share}")
        if self.lora is not None or self.stacking.weight != 0:
            raise ValueError("a base is trained with lora: null and stacking.weight: 0")
        self.restoration_share, self.prompt_share = restoration_share, prompt_share
        self.density_per_level, self.train_ends = density_per_level, train_ends

    def configure_model(self) -> None:
        """Load the networks; the camera token and the features of time are not trained.

        The token belongs to the adapter. Copying divides by t, by weights of the time's features: a
        small change of the features is a large one of the copy.
        """
        if self.transformer is None:
            super().configure_model()
            self.camera.requires_grad_(False)
            transformer: Any = self.transformer
            transformer.time_text_embed.requires_grad_(False)
            for name, parameter in transformer.named_parameters():
                is_end = name.startswith(("x_embedder", "proj_out", "norm_out"))
                if is_end or re.search(r"\.norm\w*\.linear\.", name):
                    parameter.requires_grad_(self.train_ends)

    @torch.no_grad()
    def example(self, batch: Batch) -> Example:
        """Draw each sample's task, and encode its reference, depth and target.

        Draws are made on the training device, for a batch at a time (*ours*: a generator a sample
        would take longer than the step): they are functions of the seed and of the batch's first
        index, and differ between devices.
        """
        generator = torch.Generator(self.device)
        first_index = int(batch.index[0])
        generator.manual_seed(diffusion.draw_integer(self.seed, first_index, "base"))
        count = len(batch.index)

        def uniforms(numbers: int) -> Tensor:
            return torch.rand(count, numbers, generator=generator, device=self.device)

        # Reference and unprompted target with rendered blur
        image = batch.image_srgb
        cameras = draw_cameras(batch.disparity, uniforms(NUM_UNIFORMS), self.camera_sampling)
        reference, blurred = photograph(
            image,
            batch.disparity,
            input_width_px(image, self.trained_size_px),
            cameras[:2],
            self.rendering,
            float(self.camera_sampling.level_max),
        )
        # Tasks
        camera, draw = cameras[1], uniforms(1)[:, 0]
        is_prompted = draw < self.prompt_share
        is_restored = ~is_prompted & (draw < self.prompt_share + self.restoration_share)
        density = self.density_per_level * camera.bokeh_level
        foggy = fog(image, batch.disparity, camera.focus_disparity, density)
        targets = (is_prompted, foggy), (is_restored, image)
        target = blurred
        for mask, values in targets:
            target = torch.where(mask[:, None, None, None], values, target)
        # Depth as it is given, or none
        given = batch.given_disparity if batch.given_disparity.numel() else batch.disparity
        depth = given * (uniforms(1) >= self.depth_dropout)[:, :, None, None]
        latents = self.encode(reference, target, depth.expand(-1, 3, -1, -1))
        # Noise and flow times
        noise = torch.randn(latents[0].shape, generator=generator, device=self.device)
        logit = torch.randn(count, generator=generator, device=self.device)
        sampling = self.timestep_sampling
        t = uniforms(1)[:, 0]
        if sampling.kind == "logit_normal":
            t = torch.sigmoid(sampling.mean + sampling.std * logit)
        level = torch.where(is_prompted, camera.bokeh_level, UNPROMPTED)
        level = torch.where(is_restored, CLEAR, level)
        return Example(
            reference=latents[0],
            depth=latents[2],
            first=latents[1],
            second=latents[1],
            mask=torch.ones_like(latents[1][:, :1]),
            first_camera=camera._replace(bokeh_level=level),
            second_camera=cameras[2],
            noise=noise,
            t=diffusion.shift_time(t, sampling.shift),
        )

    def velocity(
        self,
        noisy: Tensor,
        t: Tensor,
        reference: Tensor,
        depth: Tensor,
        focus_point: Tensor,
        bokeh_level: Tensor,
    ) -> Tensor:
        """Predict the velocity for a point and a level, for `UNPROMPTED` or for `CLEAR`."""
        token = prompt_token(self.camera, focus_point, bokeh_level)
        return self.sampler.velocity(noisy, t, reference, depth, token)

    def restore(self, image: Tensor, disparity: Tensor, index: list[int]) -> Tensor:
        """Make images [b, 3, h, w] in [0, 1] all in focus, each from the noise of its index."""
        reference, depth = self.encode(image, disparity.expand(-1, 3, -1, -1))
        noise = diffusion.draw_noise(reference.shape[1:], self.seed, index, "probe")
        level = torch.full((len(image),), CLEAR, device=image.device)
        point = torch.full((len(image), 2), 0.5, device=image.device)
        times = diffusion.euler_times(self.num_inference_steps, self.timestep_sampling.shift)
        latent = euler(
            lambda latent, t: self.velocity(latent, t, reference, depth, point, level),
            noise.to(reference),
            times,
        )
        return ((self.codec.decode(latent).float() + 1) / 2).clamp(0, 1)

    # --- validation: what it restores, beside the probe ---

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._restoration = RestorationProbe(self.rendering, self.seed, self.restore)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self._probe_run.scenes_left > 0:
            self._restoration.update(batch)
        super().validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        values = self._restoration.values()
        self.log_dict({f"restoration/{name}": value for name, value in values.items()})
        super().on_validation_epoch_end()
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            step = {"step": self.trainer.global_step}
            write_json(run_folder(self.trainer) / "restoration.json", step | values)


def prompt_token(
    camera: CameraEmbedder, focus_point: Float[Tensor, "b 2"], level: Float[Tensor, "b"]
) -> Float[Tensor, "b k e"]:
    """Return the camera's token; zeros for `UNPROMPTED`; "clear" alone for `CLEAR`."""
    token = camera(focus_point, level).clone()
    token[:, 0, CLEAR_NUMBER] += (level == CLEAR).to(token.dtype)
    return token
