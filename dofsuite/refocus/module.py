"""DiffCamera as a LightningModule: a training step reads like the paper's section 3.2."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from dofsuite import diffusion
from dofsuite.backbones import Backbone, Lora, PretrainedFlux
from dofsuite.data import Batch, check_has_depth
from dofsuite.diffusion import TimestepSampling
from dofsuite.optics import downsample_mask, stack_images, stack_mask
from dofsuite.refocus.camera_embedder import CameraEmbedder
from dofsuite.refocus.cameras import NUM_UNIFORMS, CameraDraws, Cameras, draw_cameras
from dofsuite.refocus.export import export
from dofsuite.refocus.flux_tokens import PositionIds, check_token_grid, predict_velocity
from dofsuite.refocus.losses import Stacking, flow_loss, stacking_loss
from dofsuite.refocus.probe import Probe, ProbeRun, Task
from dofsuite.refocus.rendering import Rendering, input_width_px, photograph
from dofsuite.refocus.sampling import euler
from dofsuite.refocus.two_pass import backward_early
from dofsuite.training import check_compatible, run_folder
from dofsuite.training.lr_schedule import LrSchedule, start_step


class Example(NamedTuple):
    """A training example in latents [b, c, h, w]."""

    reference: Tensor
    depth: Tensor
    first: Tensor
    second: Tensor
    mask: Tensor
    """[b, 1, h, w] in [0, 1], 1 where the first target is the sharper one."""
    first_camera: Cameras
    second_camera: Cameras
    noise: Tensor
    t: Tensor


class Refocus(pl.LightningModule):
    """Any image in, the same scene focused at a chosen point with a chosen bokeh level out (arXiv 2509.26599)."""

    def __init__(
        self,
        backbone: Backbone = PretrainedFlux(),  # noqa: B008  (a light description, never changed)
        lora: Lora | None = Lora(),  # noqa: B008
        draws: CameraDraws = CameraDraws(),  # noqa: B008
        rendering: Rendering = Rendering(),  # noqa: B008
        stacking: Stacking = Stacking(),  # noqa: B008
        time: TimestepSampling = TimestepSampling(),  # noqa: B008
        probe: Probe = Probe(),  # noqa: B008
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-4),
        schedule: LrSchedule = LrSchedule(),  # noqa: B008
        depth_dropout: float = 0.5,
        level_scale: float = 20.0,
        focus_range: Literal["unit", "signed"] = "signed",
        guidance: float = 1.0,
        position_ids: PositionIds = "kontext",
        rows: Literal["together", "apart"] = "together",
        gradient_checkpointing: bool = False,
        num_inference_steps: int = 28,
        seed: int = 0,
    ) -> None:
        """Describe the training; weights are loaded when it begins.

        Args:
            backbone: Which FLUX.
            lora: The adapter; null trains all of the transformer's weights.
            draws: Planes, levels and points of the training pictures.
            rendering: How those pictures are rendered.
            stacking: The stacking constraint.
            time: Distribution of flow times.
            probe: The control probe and the sample sheet.
            optimizer: Paper: constant rate of 1e-4, optimiser not given. Here: AdamW (*inferred*).
            schedule: Warm-up and cool-down of the learning rate; none in the paper.
            depth_dropout: Share of depth images replaced by zeros (*stated*: 0.5); with 1 no depth
                is shown in the probe nor by the export either (*stated*: "training and inference").
            level_scale: Bokeh level that the camera token is fed as 1 (*inferred*).
            focus_range: Feed the focus point as [0, 1] or as [-1, 1] (*ours*).
            guidance: FLUX.1-dev's guidance embedding in training and inference (*inferred*: 1, as
                FLUX adapters do).
            position_ids: Of reference and depth tokens (*inferred*).
            rows: The flow row and the two stacking rows of a sample in one call of the transformer,
                or the flow row first, with a backward of its own (needs a third of the memory at
                1024 px).
            gradient_checkpointing: Recompute blocks in the backward pass.
            num_inference_steps: Euler steps of sheet and probe, and the export's default (*ours*).
            seed: Noise, times, dropout and cameras follow from it and the sample's position in the
                run.
        """
        super().__init__()
        if not 0 <= depth_dropout <= 1:
            raise ValueError(
                f"depth_dropout: a share between 0 and 1 is expected, not {depth_dropout}"
            )
        self.backbone, self.lora = backbone, lora
        self.draws, self.rendering, self.stacking, self.time, self.probe = (
            draws,
            rendering,
            stacking,
            time,
            probe,
        )
        self.optimizer, self.schedule = optimizer, schedule
        self.depth_dropout, self.uses_depth = depth_dropout, depth_dropout < 1
        self.level_scale, self.focus_range = level_scale, focus_range
        self.guidance, self.position_ids, self.rows = guidance, position_ids, rows
        self.gradient_checkpointing, self.num_inference_steps = (
            gradient_checkpointing,
            num_inference_steps,
        )
        self.seed = seed
        self.strict_loading = False  # checkpoints hold trained weights only
        self.transformer: Any = None
        self.trained_size_px: int | None = None
        self.start_step = 0

    def configure_model(self) -> None:
        """Load the frozen networks and add what is trained: adapter (or all weights) and camera token."""
        if self.transformer is not None:
            return
        self.transformer, self.codec, pooled_text = self.backbone.load()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.lora is None:
                self.transformer.requires_grad_(True)
            else:
                self.lora.attach(self.transformer)
            self.camera = CameraEmbedder(
                self.transformer.config.joint_attention_dim,
                self.level_scale,
                self.focus_range,
                self.rendering.reference_width_px,
                self.transformer.config.pooled_projection_dim,
            )
        self.camera.pooled_text.copy_(pooled_text)
        if self.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()

    # --- the algorithm box ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One example per sample: L = L_flow + lambda L_stack, eq. (6)."""
        losses = self.losses(self.example(batch))
        self.log_dict(
            {f"train/{name}": loss for name, loss in losses.items()}, batch_size=len(batch.key)
        )
        return losses["loss"]

    @torch.no_grad()
    def example(self, batch: Batch) -> Example:
        """Draw cameras, render their pictures and encode them (sec. 3.1 and 3.2)."""
        indices = batch.index.tolist()
        uniforms = diffusion.draw_uniform(self.seed, indices, "cameras", NUM_UNIFORMS)
        dropped = (
            diffusion.draw_uniform(self.seed, indices, "dropout", 1).to(self.device)
            < self.depth_dropout
        )
        cameras = draw_cameras(batch.disparity, uniforms, self.draws)
        pictures = self.pictures(batch, cameras)
        depth = batch.disparity * ~dropped[:, :, None, None]
        reference, first, second, depth_latent = self.encode(*pictures, depth.expand(-1, 3, -1, -1))
        mask = downsample_mask(stack_mask(*pictures[1:]), first.shape[-2:], self.stacking.antialias)
        noise = diffusion.draw_noise(first.shape[1:], self.seed, indices, "noise").to(self.device)
        t = diffusion.draw_times(self.time, self.seed, indices).to(self.device)
        return Example(
            reference, depth_latent, first, second, mask, cameras[1], cameras[2], noise, t
        )

    def pictures(self, batch: Batch, cameras: tuple[Cameras, Cameras, Cameras]) -> list[Tensor]:
        """Render a sample's reference and two targets, display values [b, 3, h, w]."""
        width_px = input_width_px(batch.image_srgb)
        return photograph(batch.image_srgb, batch.disparity, width_px, cameras, self.rendering)

    def losses(self, x: Example) -> dict[str, Tensor]:
        """Return flow and stacking loss and their weighted sum; one noise and one time for all of a sample's rows."""
        flow_row = (diffusion.interpolate(x.first, x.noise, x.t), x.first_camera)
        if self.stacking.weight == 0:
            flow = flow_loss(
                self.predict(x, [flow_row])[0],
                diffusion.velocity(x.first, x.noise),
                self.stacking.norm,
            )
            return {"loss": flow, "flow": flow.detach()}
        if self.rows == "together":
            flow_prediction, *stack_predictions = self.predict(
                x, [flow_row, *self.stacking_rows(x)]
            )
            flow = flow_loss(
                flow_prediction, diffusion.velocity(x.first, x.noise), self.stacking.norm
            )
        else:
            flow = flow_loss(
                self.predict(x, [flow_row])[0],
                diffusion.velocity(x.first, x.noise),
                self.stacking.norm,
            )
            flow = backward_early(flow, [p for p in self.parameters() if p.requires_grad])
            stack_predictions = self.predict(x, self.stacking_rows(x))
        velocity_stack = diffusion.velocity(stack_images(x.mask, x.first, x.second), x.noise)
        stack = stacking_loss(*stack_predictions, x.mask, velocity_stack, self.stacking.norm)
        return {
            "loss": flow + self.stacking.weight * stack,
            "flow": flow.detach(),
            "stack": stack.detach(),
        }

    def stacking_rows(self, x: Example) -> list[tuple[Tensor, Cameras]]:
        """Return what the two passes of eq. (5) see: the noisy stacked latent, or each its own image's."""
        if self.stacking.latent == "own":
            latents = [diffusion.interpolate(own, x.noise, x.t) for own in (x.first, x.second)]
        else:
            latents = [
                diffusion.interpolate(stack_images(x.mask, x.first, x.second), x.noise, x.t)
            ] * 2
        return list(zip(latents, (x.first_camera, x.second_camera), strict=True))

    # --- the network ---

    def encode(self, *images: Tensor) -> list[Tensor]:
        """Encode display values in [0, 1] to float32 latents, in one call of the codec."""
        check_token_grid(*images[0].shape[-2:], self.codec.downscale)
        return list(self.codec.encode(torch.cat(images) * 2 - 1).float().chunk(len(images)))

    def predict(self, x: Example, rows: list[tuple[Tensor, Cameras]]) -> tuple[Tensor, ...]:
        """Return the velocities of several rows of every sample by one call of the transformer."""
        latents, cameras = zip(*rows, strict=True)
        n = len(rows)
        predictions = self.velocity(
            torch.cat(latents),
            x.t.repeat(n),
            x.reference.repeat(n, 1, 1, 1),
            x.depth.repeat(n, 1, 1, 1),
            torch.cat([camera.focus_point for camera in cameras]),
            torch.cat([camera.bokeh_level for camera in cameras]),
        )
        return predictions.chunk(n)

    def velocity(
        self,
        noisy: Tensor,
        t: Tensor,
        reference: Tensor,
        depth: Tensor,
        focus_point: Tensor,
        bokeh_level: Tensor,
    ) -> Tensor:
        """theta(z_t, t, I_r, D, (f_x, f_y), b); a level below 0 is a camera that is not told, a token of zeros."""
        token = self.camera(focus_point, bokeh_level) * (bokeh_level >= 0)[:, None, None]
        return predict_velocity(
            self.transformer,
            noisy,
            reference,
            depth,
            token,
            t,
            self.camera.pooled_text,
            self.guidance,
            self.position_ids,
        )

    @torch.no_grad()
    def refocus(
        self,
        reference: Tensor,
        depth: Tensor,
        focus_point: Tensor,
        bokeh_level: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Return refocused pictures [b, 3, h, w] in [0, 1] for references and depths given as latents."""

        def velocity(latent: Tensor, t: Tensor) -> Tensor:
            return self.velocity(latent, t, reference, depth, focus_point, bokeh_level)

        times = diffusion.euler_times(self.num_inference_steps, self.time.shift)
        return ((self.codec.decode(euler(velocity, noise, times)).float() + 1) / 2).clamp(0, 1)

    def answer(self, batch: Batch, task: Task) -> Tensor:
        """Answer a task of the probe; one noise a scene, the same for all its tasks."""
        disparity = batch.disparity * self.uses_depth
        reference, depth = self.encode(task.reference, disparity.expand(-1, 3, -1, -1))
        noise = diffusion.draw_noise(depth.shape[1:], self.seed, batch.index.tolist(), "probe").to(
            depth
        )
        return self.refocus(
            reference, depth, task.camera.focus_point, task.camera.bokeh_level, noise
        )

    # --- Lightning ---

    def configure_optimizers(self) -> dict[str, Any]:
        """Make the optimiser over what is trained, and the schedule of its rate."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        max_steps, start_step = self.trainer.max_steps, self.start_step
        scheduler = LambdaLR(
            optimizer, lambda step: self.schedule.factor(step, max_steps, start_step)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_fit_start(self) -> None:
        """Note the size of the training pictures, which the export states."""
        self.trained_size_px = getattr(self.trainer.datamodule, "size_px", None)
        if self.trained_size_px is not None:
            check_token_grid(self.trained_size_px, self.trained_size_px, self.codec.downscale)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse other weights than are trained here, and note where this run begins, before its schedule is made."""
        names, shapes = "model.lora (its targets, or null)", "model.lora.rank or model.backbone"
        check_compatible(checkpoint["state_dict"], self, names=names, shapes=shapes)
        self.start_step = start_step(checkpoint)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Refuse pictures without depth, to which every camera would be a pinhole."""
        check_has_depth(batch)

    def on_validation_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Refuse them here too."""
        check_has_depth(batch)

    def on_validation_epoch_start(self) -> None:
        """Begin a probe."""
        ranks = (self.trainer.world_size, self.trainer.global_rank)
        self._probe_run = ProbeRun(self.probe, self.rendering, self.seed, self.answer, *ranks)
        self._probe_run.metrics.to(
            self.device
        )  # also on a rank without a batch: NCCL adds up nothing on the CPU

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Refocus held-out scenes over the probe's cameras."""
        self._probe_run.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the probe, and write it and the sample sheet to the run folder."""
        values = self._probe_run.values()
        self.log_dict({f"probe/{name}": value for name, value in values.items()})
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            self._probe_run.write(run_folder(self.trainer), self.trainer.global_step, values)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained; frozen networks come from the backbone."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            k: v for k, v in checkpoint["state_dict"].items() if k in trained
        }

    def export(self, folder: Path) -> None:
        """Write the adapter, or a base's weights, as safetensors that diffusers loads."""
        export(self, folder)
