"""What the probe shows: samples, their scenes and photographs, and both scores of them."""

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from dofsuite.data import Batch
from dofsuite.diffusion import add_noise, x_from_noise
from dofsuite.text2image.camera.lens import Lens
from dofsuite.text2image.dmd2.denoiser import no_gradient
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from dofsuite.text2image.dmd2.sampling import fresh_noise, sample, times_of
from dofsuite.text2image.networks import Name, Networks
from dofsuite.text2image.scene import Scene, scene_of
from dofsuite.training import check_not_diverged

# Timesteps at which the sheet of scores compares x_real and x_fake.
SCORE_TIMES = (250, 500, 750)


class SceneSampler(NamedTuple):
    """The network that samples now, with what is needed to photograph its images."""

    networks: Networks
    # Which of the three UNets: the teacher in its stage, in as few steps, since the generator will
    # start from it.
    name: Name
    unet: nn.Module  # That UNet, or its EMA
    lens: Lens | None
    seed: int
    guidance_scale: float = 1.0  # Of the real score

    @property
    def has_camera(self) -> bool:
        return self.lens is not None or self.name in self.networks.exif_conditioned

    def latents(self, batch: Batch, cond: Conditioning) -> Tensor:
        """Sample latents, from a noise of each sample's own."""
        networks = self.networks
        draw = fresh_noise(
            networks.latent_shape(batch.image_srgb),
            self.seed,
            batch.index.tolist(),
            "probe",
            batch.image_srgb.device,
        )
        denoiser = networks.denoiser(self.name, cond)._replace(unet=self.unet)
        return sample(denoiser.noise, draw, networks.alphas_cumprod)

    def decoded(self, latent: Tensor) -> Tensor:
        """Decode to images [b, 3, h, w] in [0, 1]."""
        with no_gradient():
            return self.networks.decode(latent).float().clamp(0, 1)

    def scores(self, x: Tensor, batch: Batch, cond: Conditioning) -> list[Tensor]:
        """Return decoded x, and x_real (with CFG) and x_fake of noisy x at each of `SCORE_TIMES`.

        Both scores of one time see the same noise.
        """
        networks, images = self.networks, [self.decoded(x)]
        index = batch.index.tolist()
        draw = fresh_noise(x.shape[1:], self.seed, index, "probe scores", x.device)
        for number, time in enumerate(SCORE_TIMES):
            t = times_of(x, time)
            x_t = add_noise(x, draw(number), t, networks.alphas_cumprod)
            real = networks.denoiser("teacher", cond).guided_noise(x_t, t, self.guidance_scale)
            fake = networks.denoiser("critic", cond).noise(x_t, t)
            for noise in (real, fake):
                predicted = x_from_noise(x_t, noise, t, networks.alphas_cumprod)
                images.append(self.decoded(predicted))
        return images

    def scene(self, batch: Batch, latent: Tensor | None = None) -> Scene:
        """Sample the scenes of a batch, or of latents that were sampled before."""
        if latent is None:
            latent = self.latents(batch, Conditioning.of(batch))
        image, networks = self.decoded(latent), self.networks
        assert networks.depth is not None
        assert networks.focus is not None
        scene = scene_of(image, networks.depth, networks.focus)
        values = (image, scene.focus_distance, scene.scale_mm, scene.saliency)
        check_not_diverged([value for value in values if value is not None])
        return scene

    def photograph(self, scene: Scene, cond: Conditioning) -> Tensor:
        assert self.lens is not None
        return self.lens.photograph(scene, cond.exif, cond.width_px, cond.sensor_width_mm).clamp(
            0, 1
        )


def first_scenes(scene: Scene, count: int) -> Scene:
    values = {name: getattr(scene, name) for name in ("depth", "focus_distance", "scale_mm")}
    kept = {name: value[:count] for name, value in values.items() if value is not None}
    return replace(scene, image_srgb=scene.image_srgb[:count], **kept)
