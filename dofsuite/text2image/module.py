"""Fine-grained Defocus Blur Control as a LightningModule: DMD2 with a lens in the loop."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from dofsuite.backbones import (
    Acceleration,
    BiRefNet,
    Depth,
    DepthAnything,
    PretrainedSdxl,
    Saliency,
    Sdxl,
)
from dofsuite.backbones.descriptors import describe
from dofsuite.backbones.sdxl.adapters import UnetLora
from dofsuite.data import Batch
from dofsuite.diffusion import add_noise, draw_noise, draw_uniform, to_device, x_from_noise
from dofsuite.text2image.beforehand import beforehand_of_training
from dofsuite.text2image.camera.focus_predictor import focus_target
from dofsuite.text2image.camera.lens import Lens
from dofsuite.text2image.dmd2.alternating import AlternatingOptimization, Losses
from dofsuite.text2image.dmd2.checks import check_trained_teacher
from dofsuite.text2image.dmd2.denoiser import no_gradient
from dofsuite.text2image.dmd2.losses import (
    Weights,
    denoising_loss,
    distribution_matching_loss,
    focus_loss,
    gan_critic_loss,
    gan_generator_loss,
)
from dofsuite.text2image.dmd2.sample_buffer import Conditioning, GeneratedSample
from dofsuite.text2image.dmd2.sampling import (
    FEW_STEPS,
    backward_simulation,
    fresh_noise,
    step_index,
)
from dofsuite.text2image.dmd2.stages import Stages, Step
from dofsuite.text2image.dmd2.training_options import Training
from dofsuite.text2image.export import ExportedNetworks, export, gather
from dofsuite.text2image.networks import FocusPredictorConfig, Name, Networks
from dofsuite.text2image.probe import Probe, ProbeRun, SceneSampler, load_segmenter
from dofsuite.text2image.scene import scene_of
from dofsuite.text2image.settings import Text2ImageSettings
from dofsuite.training import run_folder
from dofsuite.training.sharding import fsdp

ALL_TIMES = (0, 999)
# First and last timestep at which the two scores are compared (DMD2: 2 to 98 %).
SCORE_TIMES = (20, 980)


class Text2Image(AlternatingOptimization):
    """Prompt and EXIF -> all-in-focus image -> depth -> focus -> lens -> photograph.

    arXiv 2510.06215, trained by DMD2 on unpaired Deep and Shallow DoF sets.
    """

    def __init__(
        self,
        backbone: Sdxl = PretrainedSdxl(),  # noqa: B008  (light descriptors, never changed)
        depth: Depth = DepthAnything(),  # noqa: B008
        saliency: Saliency = BiRefNet(),  # noqa: B008
        focus: FocusPredictorConfig = FocusPredictorConfig(),  # noqa: B008
        lens: Lens | None = Lens(),  # noqa: B008
        stages: Stages = Stages(),  # noqa: B008
        weights: Weights = Weights(),  # noqa: B008
        probe: Probe = Probe(),  # noqa: B008
        guidance_scale: float = 8.0,
        exif_conditioned: tuple[Name, ...] = (),
        size_px: int = 1024,
        focus_on: Literal["photographs", "samples"] = "photographs",
        generator_optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(
            p, lr=5e-7, weight_decay=0.01
        ),
        critic_optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(
            p, lr=5e-7, weight_decay=0.01
        ),
        teacher_optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(
            p, lr=1e-5, weight_decay=0.01
        ),
        focus_optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(
            p, lr=1e-4, weight_decay=0.01
        ),
        training: Training = Training(),  # noqa: B008
        discriminator_dtype: Literal["float32"] | None = None,
        gradient_checkpointing: bool = False,
        teacher_dtype: Literal["float32", "bfloat16"] = "float32",
        generator_from: str | None = None,
        generator_lora: UnetLora | None = None,
        critic_lora: UnetLora | None = None,
        acceleration: Acceleration = Acceleration(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        """Configure the training; weights are loaded when it begins.

        Args:
            backbone: Which SDXL: the real score, whose copies generator and fake score start as.
            depth: Which frozen depth model. Paper: Metric3Dv2. Here: one that can be downloaded
                freely by default.
            saliency: Which frozen saliency model makes the focus predictor's target (*inferred*).
            focus: The focus predictor.
            lens: The lens of the Shallow branch; null for the baseline without one.
            stages: Teacher, deep and full stage.
            weights: Loss weights.
            probe: Held-out prompts over apertures and focus distances.
            guidance_scale: Classifier-free guidance of the real score (*stated*: 8).
            exif_conditioned: Networks that get EXIF beside the timestep. None (*inferred*: the
                paper does not say) for ours; `generator`, `critic` and `teacher` for the
                EXIF-conditioned baseline. With `critic`, one fake score can model deep and shallow
                samples as separate conditionals instead of their mixture (*ours*).
            size_px: Side of the images (*stated*: 1024); the discriminator's layers follow from it.
            focus_on: Images of the focus loss (*ours*: the batch's photographs, whose depth is
                real).
            generator_optimizer: Paper: AdamW 5e-7, weight decay 0.01, betas 0.9 and 0.999
                (*stated*).
            critic_optimizer: The same, for fake score and discriminator together.
            teacher_optimizer: For the teacher stage (*ours*).
            focus_optimizer: For the focus predictor; its steps are not counted (rate *ours*).
            training: Micro-batches, clipping, warm-up, EMA.
            discriminator_dtype: `float32` runs the discriminator in float32, as DMD2 does; null in
                the surrounding precision.
            gradient_checkpointing: Recompute UNet blocks in the backward pass.
            teacher_dtype: `bfloat16` stores the frozen real score's weights so (*ours*), as mixed
                precision would round them in every call: half their memory.
            generator_from: What the generator starts from instead of the teacher (*ours*): a hub id
                or folder in diffusers layout, a UNet's state dict in a file, or a file on the hub,
                such as `tianweiy/DMD2/dmd2_sdxl_4step_unet_fp16.bin`, DMD2's own four-step SDXL.
                Fake score and discriminator still start as the teacher and anew.
            generator_lora: Train adapters of the generator instead of its weights, which are then
                the teacher's own in memory, stored in `teacher_dtype` (*ours*: null; DMD2's code:
                rank 64, alpha 8, all targets, with a learning rate of 5e-5).
            critic_lora: The same of the fake score (*ours*: null; DMD2 trains it whole); the
                discriminator is always trained whole.
            acceleration: Compiled blocks of the three UNets, in training, and the VAE's layout; the
                UNets' attention is torch's.
            seed: Noise, times and step indices follow from it and the sample's position in the run.
        """
        optimizers = {
            "generator": generator_optimizer,
            "critic": critic_optimizer,
            "focus": focus_optimizer,
            "teacher": teacher_optimizer,
        }
        super().__init__(stages, training, optimizers, acceleration, seed)
        # What is not at its default needs a teacher that is not trained, or torch's attention.
        loras: dict[Name, UnetLora | None] = {"generator": generator_lora, "critic": critic_lora}
        self.loras = {name: lora for name, lora in loras.items() if lora is not None}
        if stages.teacher:
            check_trained_teacher(teacher_dtype, generator_from, self.loras)
        if acceleration.attention not in ("auto", "sdpa"):
            raise ValueError(
                f"acceleration.attention: SDXL's UNet takes torch's attention alone, not "
                f"{acceleration.attention}; leave it auto or sdpa"
            )
        self.backbone, self.teacher_dtype = backbone, teacher_dtype
        self.generator_from = generator_from
        self.depth, self.saliency = depth, saliency
        self.focus, self.focus_on = focus, focus_on
        self.lens, self.probe = lens, probe
        self.weights, self.guidance_scale = weights, guidance_scale
        self.exif_conditioned, self.size_px = tuple(exif_conditioned), size_px
        self.discriminator_dtype, self.gradient_checkpointing = (
            discriminator_dtype,
            gradient_checkpointing,
        )
        self.beforehand = beforehand_of_training(
            backbone,
            depth,
            saliency,
            encodes_photographs=weights.gan_critic > 0 or stages.teacher > 0,
            targets_photographs=bool(lens and weights.focus) and focus_on == "photographs",
        )

    def build(self) -> Networks:
        # In a tuple it is no submodule, so that it is on the device only while the probe runs.
        self._segmenter = (load_segmenter(self.probe.segmenter),)
        # What is trained, and what it is trained through
        return Networks(
            self.backbone,
            self.depth,
            None if "focus_targets" in self.brought else self.saliency,
            self.focus,
            self.exif_conditioned,
            self.size_px,
            self.lens is not None,
            self.discriminator_dtype,
            self.gradient_checkpointing,
            self.teacher_dtype,
            self.generator_from,
            self.loras,
            sharded=self.device_mesh is not None,
        )

    # --- the algorithm box ---

    def losses(
        self, step: Step, batch: Batch, sample: GeneratedSample | None
    ) -> tuple[Losses, GeneratedSample | None]:
        if step.stage == "teacher":
            return self.teacher_step(batch), None
        if step.is_generator:
            losses, generated = self.generator_step(batch, step)
        else:
            losses, generated = self.critic_step(batch, step, sample), None
        if self.lens is not None and self.weights.focus:
            losses |= self.focus_step(batch, step)
        return losses, generated

    def generator_step(self, batch: Batch, step: Step) -> tuple[Losses, GeneratedSample]:
        """L = lambda (L_DM + w L_G) on the sample x, or on its photograph in a Shallow cycle."""
        cond, index = Conditioning.of(batch), batch.index.tolist()
        weight = self.weights.shallow if step.is_shallow else self.weights.deep

        # Sample at a random denoising step, from the generator's own outputs (DMD2, sec. 4.5);
        # in Shallow cycles decode -> depth -> focus -> lens -> encode, differentiable.
        x = self.apply_lens(self.backward_simulation(batch, step), cond, step)

        # Distribution matching: frozen real score with CFG against the current fake score.
        x_real, x_fake = self.x0_predictions(x, cond, index)
        matching = distribution_matching_loss(x, x_real, x_fake)
        losses = {f"dm/{step.kind}": weight * matching}
        self.note(f"dm_gradient_norm/{step.kind}", (2 * x.numel() * matching.detach()).sqrt())

        # GAN term: the discriminator on the fake score's mid-block features of noisy x.
        if self.weights.gan_generator:
            x_t, t, _ = self.add_noise_at_random_t(x, index, "judged")
            features = self.networks.denoiser("critic", cond).features(x_t, t)
            gan = gan_generator_loss(self.networks.discriminator(features))
            losses[f"gan_generator/{step.kind}"] = weight * self.weights.gan_generator * gan
        return losses, GeneratedSample(x.detach(), cond)

    def critic_step(self, batch: Batch, step: Step, sample: GeneratedSample | None) -> Losses:
        """L = L_denoise(fake) + w L_D(real, fake)."""
        index = batch.index.tolist()
        if sample is None:
            cond = Conditioning.of(batch)
            with no_gradient():
                x = self.apply_lens(self.backward_simulation(batch, step), cond, step)
            sample = GeneratedSample(x, cond)
        x, cond = sample

        # Fake score: denoise generated samples. The same forward gives the discriminator's fake
        # features (DMD2: a forward of its own).
        x_t, t, noise = self.add_noise_at_random_t(x, index, "fake")
        denoiser = self.networks.denoiser("critic", cond)
        predicted, fake_features = denoiser.noise_and_features(x_t, t)
        losses = {"fake_score": denoising_loss(predicted, noise, denoiser.denoising_weight(t))}

        # Discriminator: noisy real latents against noisy generated ones.
        if self.weights.gan_critic:
            x_t, t, _ = self.add_noise_at_random_t(self.networks.latents(batch), index, "real")
            critic = self.networks.denoiser("critic", Conditioning.of(batch))
            real_features = critic.features(x_t, t)
            real = self.networks.discriminator(real_features)
            fake = self.networks.discriminator(fake_features)
            losses["gan_discriminator"] = self.weights.gan_critic * gan_critic_loss(real, fake)
            self.note(f"judged_real/real/{step.kind}", real.sigmoid())
            self.note(f"judged_real/fake/{step.kind}", fake.sigmoid())
        for name, loss in losses.items():
            self.note(f"{name}/{step.kind}", loss)
        return losses

    def focus_step(self, batch: Batch, step: Step) -> Losses:
        """L = lambda3 L_Huber(f_d, sum(S D) / sum(S)), on photographs or on generated samples."""
        # Pseudo-target: the saliency-weighted mean depth.
        with no_gradient():
            image = batch.image_srgb
            if self.focus_on == "samples":
                image = self.networks.decode(self.backward_simulation(batch, step))
            depth = self.networks.depth(image)
            target = (
                batch.focus_target
                if batch.focus_target.numel()
                else focus_target(self.networks.saliency(image), depth)
            )

        focus = self.networks.focus(image, depth)
        self.note(f"focus_distance/{step.kind}", focus.focus_distance)
        self.note(f"scale_mm/{step.kind}", focus.scale_mm)
        return {"focus": self.weights.focus * focus_loss(focus.focus_distance, target)}

    def teacher_step(self, batch: Batch) -> Losses:
        """L = L_denoise(real), with prompt dropout 0.1 for classifier-free guidance (*ours*)."""
        cond, index = Conditioning.of(batch), batch.index.tolist()
        x_t, t, noise = self.add_noise_at_random_t(self.networks.latents(batch), index, "teacher")
        keep_prompt = draw_uniform(self.seed, index, "prompt dropout", 1) >= 0.1
        denoiser = self.networks.denoiser("teacher", cond)
        predicted = denoiser.without_prompt(to_device(keep_prompt, self.device)).noise(x_t, t)
        return {"teacher": denoising_loss(predicted, noise, denoiser.denoising_weight(t))}

    # --- lines of the box ---

    def backward_simulation(self, batch: Batch, step: Step) -> Tensor:
        shape = self.networks.latent_shape(batch.image_srgb)
        draw = fresh_noise(shape, self.seed, batch.index.tolist(), "simulation", self.device)
        return backward_simulation(
            self.networks.denoiser("generator", Conditioning.of(batch)).noise,
            draw,
            step_index(self.seed, step.index),
            self.networks.alphas_cumprod,
        )

    def apply_lens(self, x: Tensor, cond: Conditioning, step: Step) -> Tensor:
        """Return x, or in Shallow cycles its photograph: decode, depth, focus, lens, encode."""
        if not step.is_shallow or self.lens is None:
            return x
        networks = self.networks
        scene = scene_of(networks.decode(x), networks.depth, networks.focus)
        if scene.focus_distance is not None and scene.scale_mm is not None:
            self.note("focus_distance/samples", scene.focus_distance)
            self.note("scale_mm/samples", scene.scale_mm)
        photographs = self.lens.photograph(scene, cond.exif, cond.width_px, cond.sensor_width_mm)
        return networks.encode(photographs)

    def x0_predictions(
        self, x: Tensor, cond: Conditioning, index: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Return x0 of the real score (with CFG) and the fake score (without) for the same x_t."""
        alphas_cumprod = self.networks.alphas_cumprod
        with no_gradient():
            x_t, t, _ = self.add_noise_at_random_t(x, index, "scores", SCORE_TIMES)
            real = self.networks.denoiser("teacher", cond).guided_noise(x_t, t, self.guidance_scale)
            fake = self.networks.denoiser("critic", cond).noise(x_t, t)
            return (
                x_from_noise(x_t, real, t, alphas_cumprod),
                x_from_noise(x_t, fake, t, alphas_cumprod),
            )

    def add_noise_at_random_t(
        self, x: Tensor, index: list[int], purpose: str, times: tuple[int, int] = ALL_TIMES
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (x_t, t, eps), drawn for this purpose of these samples."""
        first, last = times
        uniform = draw_uniform(self.seed, index, f"{purpose} time", 1)[:, 0]
        t = to_device((first + uniform * (last - first + 1)).long(), x.device)
        noise = draw_noise(x.shape[1:], self.seed, index, f"{purpose} noise")
        noise = to_device(noise, x.device)
        return add_noise(x, noise, t, self.networks.alphas_cumprod), t, noise

    # --- Lightning ---

    def on_validation_epoch_start(self) -> None:
        self.unshard_for_validation(True)
        self._probe_run = ProbeRun(
            self.probe,
            self.scene_sampler(),
            *self._segmenter,
            world_size=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )

    def scene_sampler(self) -> SceneSampler:
        """Return what the probe samples with: the EMA where there is one, as it is exported."""
        name: Name = "generator"
        if not self.stages.generator_has_begun(self.global_step):
            name = "teacher"
        ema = self.ema_generator
        unet = getattr(self.networks, name)
        if name == "generator" and ema is not None and ema.n_averaged > 0:
            unet = ema.module
        return SceneSampler(self.networks, name, unet, self.lens, self.seed, self.guidance_scale)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._probe_run.update(batch)

    def on_validation_epoch_end(self) -> None:
        self.unshard_for_validation(False)
        values = self._probe_run.values()
        self._probe_run.end()
        self.log_dict({f"probe/{name}": value for name, value in values.items()})
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            folder, step = run_folder(self.trainer), self.trainer.global_step
            self._probe_run.write(folder, step, values, self.trainer.loggers)

    def unshard_for_validation(self, unsharded: bool) -> None:
        """Unshard the networks used in validation, the EMA too. Collective: call on all ranks."""
        networks = self.networks
        for name in ("generator", "teacher", "critic", "focus"):
            fsdp.unshard(getattr(networks, name), unsharded)
        fsdp.unshard(self.ema_generator, unsharded)

    def exported_networks(self) -> ExportedNetworks:
        networks, ema = self.networks, self.ema_generator
        trains_teacher = self.stages.teacher > 0
        # The EMA where there is one; before the generator's first step, what it starts as.
        generator = networks.generator
        if ema is not None and ema.n_averaged > 0:
            generator = ema.module
        elif trains_teacher and self.global_step <= self.stages.teacher:
            generator = networks.teacher
        return ExportedNetworks(
            generator=generator,
            teacher=networks.teacher if trains_teacher else None,
            focus=networks.focus,
        )

    def gather_for_export(self) -> ExportedNetworks | None:
        return gather(
            self.exported_networks(),
            self.meta_networks,
            self.networks.codec,
            self.trainer.is_global_zero,
        )

    def export(self, folder: Path) -> None:
        networks = self.full_networks or (None if self.meta_networks else self.exported_networks())
        settings = Text2ImageSettings(
            backbone=describe(self.backbone),
            depth=describe(self.depth),
            saliency=describe(self.saliency),
            lens=None if self.lens is None else asdict(self.lens),
            few_steps=FEW_STEPS,
            size_px=self.size_px,
            exif_conditioned=self.exif_conditioned,
        )
        export(networks, settings, self.networks.codec, self.networks.prediction, folder)
