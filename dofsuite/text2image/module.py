"""Paper 1 as a LightningModule: DMD2 with a lens in the loop, on unpaired Deep and Shallow DoF sets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from dofsuite.backbones import (
    BiRefNet,
    Depth,
    DepthAnything,
    PretrainedSdxl,
    PromptEmbeds,
    Saliency,
    Sdxl,
)
from dofsuite.data import Batch
from dofsuite.diffusion import (
    add_noise,
    draw_noise,
    draw_uniform,
    scaled_linear_alphas_cumprod,
    x_from_noise,
)
from dofsuite.text2image.camera.focus_predictor import focus_target
from dofsuite.text2image.camera.lens import Lens
from dofsuite.text2image.dmd2.alternating import AlternatingOptimization, Losses, Training
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
from dofsuite.text2image.dmd2.sampling import backward_simulation, fresh_noise, step_index
from dofsuite.text2image.dmd2.stages import Stages, Turn
from dofsuite.text2image.networks import Ask, FocusPredictorConfig, Name, Networks
from dofsuite.text2image.probe import Probe, ProbeRun, load_segmenter
from dofsuite.training import run_folder
from dofsuite.training.sharding import fsdp as sharding

ALL_TIMES = (0, 999)
SCORE_TIMES = (20, 980)
"""First and last time step at which the two scores are compared (DMD2: 2 to 98 %)."""


class Text2Image(AlternatingOptimization):
    """Prompt and EXIF -> all-in-focus picture -> depth -> focus -> lens -> photograph (arXiv 2510.06215)."""

    def __init__(
        self,
        backbone: Sdxl = PretrainedSdxl(),  # noqa: B008  (light descriptions, never changed)
        depth: Depth = DepthAnything(),  # noqa: B008
        saliency: Saliency = BiRefNet(),  # noqa: B008
        focus: FocusPredictorConfig = FocusPredictorConfig(),  # noqa: B008
        lens: Lens | None = Lens(),  # noqa: B008
        stages: Stages = Stages(),  # noqa: B008
        weights: Weights = Weights(),  # noqa: B008
        probe: Probe = Probe(),  # noqa: B008
        guidance: float = 8.0,
        exif: tuple[Name, ...] = (),
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
        head_float32: bool = False,
        gradient_checkpointing: bool = False,
        teacher_bfloat16: bool = False,
        seed: int = 0,
    ) -> None:
        """Describe the training; weights are loaded when it begins.

        Args:
            backbone: Which SDXL: the real score, whose copies the generator and the fake score
                begin as.
            depth: Which frozen depth model. Paper: Metric3Dv2. Here: one that can be downloaded
                freely by default.
            saliency: Which frozen saliency model makes the focus predictor's target (*inferred*).
            focus: Size of the focus predictor.
            lens: The lens of the Shallow branch; null for the baseline without one.
            stages: Teacher, deep and full stage.
            weights: Of the losses.
            probe: Held-out prompts over apertures and distances of focus.
            guidance: Classifier-free guidance of the real score (*stated*: 8).
            exif: Networks that are told the EXIF beside the timestep. None (*inferred*: the paper
                does not say) for ours; `generator`, `critic` and `teacher` for the EXIF baseline.
                With `critic`, one fake score can tell a deep from a shallow sample instead of
                modelling their mixture (*ours*).
            size_px: Side of the pictures (*stated*: 1024); the discriminator's layers follow from
                it.
            focus_on: Pictures of the focus loss (*ours*: the batch's photographs, whose depths are
                real ones).
            generator_optimizer: Paper: AdamW 5e-7, weight decay 0.01, betas 0.9 and 0.999
                (*stated*).
            critic_optimizer: The same, of fake score and discriminator together.
            teacher_optimizer: Of the teacher stage (*ours*).
            focus_optimizer: Of the focus predictor; its steps are not counted (rate *ours*).
            training: Micro-batches, clipping, warm-up, running average.
            head_float32: Run the discriminator's head in float32 (DMD2 does; here by default as all
                else).
            gradient_checkpointing: Recompute UNet blocks in the backward pass.
            teacher_bfloat16: Keep the frozen real score's weights in bfloat16 (*ours*), as mixed
                precision would round
                them in every call: half their memory. Not where it is trained.
            seed: Noise, times and step indices follow from it and the sample's position in the run.
        """
        optimizers = dict(generator=generator_optimizer, critic=critic_optimizer)
        super().__init__(
            stages,
            training,
            optimizers | dict(focus=focus_optimizer, teacher=teacher_optimizer),
            seed,
        )
        self.backbone, self.depth, self.saliency, self.focus, self.lens = (
            backbone,
            depth,
            saliency,
            focus,
            lens,
        )
        self.weights, self.probe, self.guidance = weights, probe, guidance
        self.exif, self.focus_on, self.size_px = tuple(exif), focus_on, size_px
        self.head_float32, self.gradient_checkpointing = head_float32, gradient_checkpointing
        if teacher_bfloat16 and stages.teacher:
            raise ValueError(
                "teacher_bfloat16: a teacher that is trained needs float32 weights; set stages.teacher: 0"
            )
        self.teacher_bfloat16 = teacher_bfloat16
        self.alphas = scaled_linear_alphas_cumprod()

    def build(self) -> Networks:
        """Load the frozen networks and make the trained ones."""
        # In a tuple it is no submodule, so that it lies on the device only while it is probed with.
        self._segmenter = (load_segmenter(self.probe.segmenter),)
        return Networks(
            self.backbone,
            self.depth,
            self.saliency,
            self.focus,
            self.exif,
            self.size_px,
            self.lens is not None,
            self.head_float32,
            self.gradient_checkpointing,
            self.teacher_bfloat16,
        )

    # --- the algorithm box ---

    def phase(
        self, turn: Turn, batch: Batch, carried: GeneratedSample | None
    ) -> tuple[Losses, GeneratedSample | None]:
        """Return the losses of one turn on (a part of) a batch, and what the generator made for the next turn."""
        made = None
        if turn.stage == "teacher":
            losses = self.teacher_phase(batch)
        elif turn.is_generator:
            losses, made = self.generator_phase(batch, turn)
        else:
            losses = self.critic_phase(batch, turn, carried)
        if turn.stage != "teacher" and self.lens is not None and self.weights.focus:
            losses |= self.focus_phase(batch, turn)
        return losses, made

    def generator_phase(self, batch: Batch, turn: Turn) -> tuple[Losses, GeneratedSample]:
        """L = lambda (L_DM + w L_G) of a sample x, on a Shallow cycle of its photograph."""
        asked, index = Conditioning.of(batch), batch.index.tolist()
        x = self.seen(self.simulate(batch, turn), asked, turn)
        weight, kind = (
            (self.weights.shallow, "shallow") if turn.is_shallow else (self.weights.deep, "deep")
        )
        losses = {
            f"matching_{kind}": weight
            * distribution_matching_loss(x, *self.scores(x, asked, index))
        }
        if self.weights.gan_generator:
            noisy, t, _ = self.noised(x, index, "judged")
            logits = self.networks.head(self.ask("critic", asked).features(noisy, t))
            losses[f"fooling_{kind}"] = (
                weight * self.weights.gan_generator * gan_generator_loss(logits)
            )
        return losses, GeneratedSample(x.detach(), asked)

    def critic_phase(self, batch: Batch, turn: Turn, carried: GeneratedSample | None) -> Losses:
        """L = L_denoise(fake) + w L_D(real, fake): fake score and discriminator see the fake in one forward."""
        index = batch.index.tolist()
        fake, asked = carried if carried is not None else self.fresh_sample(batch, turn)
        noisy, t, noise = self.noised(fake, index, "fake")
        ask = self.ask("critic", asked)
        predicted, of_fake = ask.noise_and_features(noisy, t)
        losses = {"denoising": denoising_loss(predicted, noise, ask.denoising_weight(t))}
        if self.weights.gan_critic:
            noisy, t, _ = self.noised(self.networks.latent(batch.image_srgb), index, "real")
            of_real = self.ask("critic", Conditioning.of(batch)).features(noisy, t)
            gan = gan_critic_loss(self.networks.head(of_real), self.networks.head(of_fake))
            losses["discriminating"] = self.weights.gan_critic * gan
        return losses

    def focus_phase(self, batch: Batch, turn: Turn) -> Losses:
        """L = lambda3 L_Huber(f_d, sum(S D) / sum(S)), on the batch's photographs or on the generator's samples."""
        with no_gradient():
            image = batch.image_srgb
            if self.focus_on == "samples":
                image = self.networks.display(self.simulate(batch, turn))
            depth = self.networks.depth(image)
            target = focus_target(self.networks.saliency(image), depth)
        return {
            "focus": self.weights.focus
            * focus_loss(self.networks.focus(image, depth).focus_distance, target)
        }

    def teacher_phase(self, batch: Batch) -> Losses:
        """L = L_denoise(real), a tenth of the prompts zeros, so that guidance has something to guide from (*ours*)."""
        asked, index = Conditioning.of(batch), batch.index.tolist()
        noisy, t, noise = self.noised(self.networks.latent(batch.image_srgb), index, "teacher")
        told = (draw_uniform(self.seed, index, "prompt dropout", 1) >= 0.1).to(self.device)
        ask = self.ask("teacher", asked)
        ask = ask._replace(
            prompt=PromptEmbeds(ask.prompt.tokens * told[..., None], ask.prompt.pooled * told)
        )
        return {"teacher": denoising_loss(ask.noise(noisy, t), noise, ask.denoising_weight(t))}

    # --- lines of the box ---

    def simulate(self, batch: Batch, turn: Turn) -> Tensor:
        """Return the generator's x at one step of its own trajectory (backward simulation)."""
        shape = self.networks.latent_shape(batch.image_srgb)
        draw = fresh_noise(shape, self.seed, batch.index.tolist(), "simulation", self.device)
        return backward_simulation(
            self.ask("generator", Conditioning.of(batch)).noise,
            draw,
            step_index(self.seed, turn.step),
            self.alphas,
        )

    def fresh_sample(self, batch: Batch, turn: Turn) -> GeneratedSample:
        """Return a sample of the generator without gradient, as scores and discriminator see it."""
        asked = Conditioning.of(batch)
        with no_gradient():
            return GeneratedSample(self.seen(self.simulate(batch, turn), asked, turn), asked)

    def seen(self, x: Tensor, asked: Conditioning, turn: Turn) -> Tensor:
        """Return x itself, or on a Shallow cycle its photograph: decode, depth, focus, lens, encode, all graded."""
        if not turn.is_shallow or self.lens is None:
            return x
        image = self.networks.display(x)
        depth = self.networks.depth(image)
        focus = self.networks.focus(image, depth)
        photograph = self.lens.photograph(
            image, depth, focus.focus_distance, focus.scale_mm, asked.exif, asked.width_px
        )
        return self.networks.latent(photograph)

    def scores(self, x: Tensor, asked: Conditioning, index: list[int]) -> tuple[Tensor, Tensor]:
        """Return x as the real score (guided) and the fake score (not) make it out through the same noise."""
        with no_gradient():
            noisy, t, _ = self.noised(x, index, "scores", SCORE_TIMES)
            real = self.ask("teacher", asked).guided_noise(noisy, t, self.guidance)
            fake = self.ask("critic", asked).noise(noisy, t)
            return x_from_noise(noisy, real, t, self.alphas), x_from_noise(
                noisy, fake, t, self.alphas
            )

    def noised(
        self, x: Tensor, index: list[int], purpose: str, times: tuple[int, int] = ALL_TIMES
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (noisy x, its times, its noise), drawn for this purpose of these samples."""
        first, last = times
        uniform = draw_uniform(self.seed, index, f"{purpose} time", 1)[:, 0]
        t = (first + uniform * (last - first + 1)).long().to(x.device)
        noise = draw_noise(x.shape[1:], self.seed, index, f"{purpose} noise").to(x.device)
        return add_noise(x, noise, t, self.alphas), t, noise

    def ask(self, name: Name, asked: Conditioning) -> Ask:
        """Return a network with prompts and, where it is told them, camera settings filled in."""
        return self.networks.ask(name, asked, self.alphas)

    # --- Lightning ---

    def on_validation_epoch_start(self) -> None:
        """Begin a probe, for which each rank holds whole networks."""
        self.hold(True)
        ranks = (self.trainer.world_size, self.trainer.global_rank)
        self._probe_run = ProbeRun(self.probe, self, *self._segmenter, *ranks)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sweep held-out prompts."""
        self._probe_run.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the probe, and write it and the sheets to the run folder."""
        self.hold(False)
        values = self._probe_run.values()
        self._probe_run.end()
        self.log_dict({f"probe/{name}": value for name, value in values.items()})
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            self._probe_run.write(run_folder(self.trainer), self.trainer.global_step, values)

    def hold(self, held: bool) -> None:
        """Let every rank hold whole what is probed, the running average too, or no longer; all ranks must ask."""
        sharding.hold(self.networks, held)
        for unit in sharding.units(self.average):
            unit.set_reshard_after_forward(not held, recurse=False)
            unit.unshard() if held else unit.reshard()

    def export(self, folder: Path) -> None:
        """Write generator, focus predictor and lens as folders that diffusers loads."""
        from dofsuite.text2image.export import export

        export(self, folder)
