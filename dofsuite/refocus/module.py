"""DiffCamera as a LightningModule: a training step reads like the paper's section 3.2."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from dofsuite import diffusion
from dofsuite.backbones import (
    REFERENCE_BACKBONE,
    Acceleration,
    Backbone,
    Conditions,
    Lora,
    PositionIds,
)
from dofsuite.backbones.descriptors import describe
from dofsuite.backbones.quantization import Quantization, store_blocks
from dofsuite.data import Batch
from dofsuite.diffusion import TimestepSampling
from dofsuite.optics import downsample_mask, stack_images, stack_mask
from dofsuite.refocus.camera_embedder import CameraEmbedder
from dofsuite.refocus.cameras import NUM_UNIFORMS, Cameras, CameraSampling, draw_cameras
from dofsuite.refocus.export import export_adapter, export_base
from dofsuite.refocus.flow_by_time import VALIDATION_TIMES, FlowByTime, ValidationFlow
from dofsuite.refocus.lightning_hooks import RefocusRun
from dofsuite.refocus.losses import Stacking, flow_loss, mean_square_of_each, stacking_loss
from dofsuite.refocus.probe import Probe, ProbeQuery
from dofsuite.refocus.rendering import Rendering, input_width_px, photograph
from dofsuite.refocus.sampling import Sampler, check_token_grid
from dofsuite.refocus.settings import RefocusSettings, check_storage
from dofsuite.refocus.two_pass import SplitBackward, backward_by_rows, backward_early
from dofsuite.training.lr_schedule import LrSchedule

# A noisy latent [b, c, h, w] and the camera that its velocity is predicted for.
Row = tuple[Tensor, Cameras]


class Example(NamedTuple):
    """A training example; images and noise are latents [b, c, h, w]."""

    reference: Tensor
    depth: Tensor
    first: Tensor
    second: Tensor
    mask: Tensor  # [b, 1, h, w] in [0, 1], 1 where the first target is the sharper one
    first_camera: Cameras
    second_camera: Cameras
    noise: Tensor
    t: Tensor  # [b] flow time


class Refocus(RefocusRun):
    """Refocuses an image at a chosen point with a chosen bokeh level (arXiv 2509.26599)."""

    def __init__(
        self,
        backbone: Backbone = REFERENCE_BACKBONE,
        lora: Lora | None = Lora(),  # noqa: B008  (a light description, never changed)
        camera_sampling: CameraSampling = CameraSampling(),  # noqa: B008
        rendering: Rendering = Rendering(),  # noqa: B008
        stacking: Stacking = Stacking(),  # noqa: B008
        flow_targets: Literal["first", "both"] = "first",
        timestep_sampling: TimestepSampling = TimestepSampling(),  # noqa: B008
        probe: Probe = Probe(),  # noqa: B008
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-4),
        lr_schedule: LrSchedule = LrSchedule(),  # noqa: B008
        depth_dropout: float = 0.5,
        level_scale: float = 20.0,
        focus_range: Literal["unit", "signed"] = "signed",
        guidance_embed: float = 1.0,
        position_ids: PositionIds = "kontext",
        conditions: Conditions = "full",
        split_backward: SplitBackward = "none",
        gradient_checkpointing: bool = False,
        quantize: Quantization = "none",
        offload_blocks: bool = False,
        acceleration: Acceleration = Acceleration(),  # noqa: B008
        num_inference_steps: int = 28,
        export_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        seed: int = 0,
    ) -> None:
        """Store the configuration; weights are loaded in `configure_model`.

        Args:
            backbone: The base model, of any backbone family; the paper's by default (*stated*).
            lora: The adapter; null trains all of the transformer's weights.
            camera_sampling: Focal planes, bokeh levels and focus points of the training images.
            rendering: How those images are rendered.
            stacking: The stacking constraint.
            flow_targets: Paper: L_flow is on "the target image", of the two that are stacked. Here:
                on the first (*ours*; the second is seen by L_stack alone), or on `both`, for a
                third more FLOPs.
            timestep_sampling: Distribution of flow times.
            probe: The control probe and the sample sheet.
            optimizer: Paper: constant rate of 1e-4, optimizer not given. Here: AdamW (*inferred*).
            lr_schedule: Warm-up and cool-down of the learning rate; none in the paper.
            depth_dropout: Share of depth images replaced by zeros (*stated*: 0.5); with 1 the probe
                and the export use no depth either (*stated*: "training and inference").
            level_scale: Bokeh level that the camera token scales to 1 (*inferred*).
            focus_range: Range of the focus point in the camera token, [0, 1] or [-1, 1] (*ours*).
            guidance_embed: The distilled guidance of a base that takes one, in training and
                inference (*inferred*: 1, as in adapters of FLUX.1-dev).
            position_ids: Of reference and depth tokens (*inferred*): `kontext`, streams apart, by
                the numbers that the base's family gives its references; `shared`, one for all.
            conditions: What reference and depth are to the network: `full`, tokens like the noise's
                (*stated*: full attention among all); `time_zero`, modulated as at flow time 0;
                `cached`, that, and they see one another alone, so that sampling computes them once:
                at 28 steps .36 of the FLOPs (*ours*, as editing models are run in 2026).
            split_backward: Rows of a sample whose activations are alive at a time, with the same
                gradients: `none`, all three; `losses`, the flow row's, then the two stacking
                rows'; `rows`, one, for one more forward pass (a sixth of the step's FLOPs).
            gradient_checkpointing: Recompute blocks in the backward pass.
            quantize: Keep the frozen weights of the blocks in 8 bits (`int8`; `fp8`, from compute
                capability 8.9 on) or in 4 (`nf4`); the adapter stays in float32. *Ours*.
            offload_blocks: Keep the frozen weights of the blocks in the host's memory, from where
                every product copies its own. *Ours*.
            acceleration: Compiled blocks and attention kernels.
            num_inference_steps: Euler steps of sheet and probe, and the export's default (*ours*).
            export_dtype: Of the exported adapter: half precision halves its 1.05 GB at rank 64.
            seed: Noise, flow times, dropout and cameras are functions of it and of the sample's
                position in the run.
        """
        super().__init__()
        if not 0 <= depth_dropout <= 1:
            raise ValueError(
                f"depth_dropout: a share between 0 and 1 is expected, not {depth_dropout}"
            )
        check_storage(quantize, offload_blocks, lora, acceleration)
        # Networks and optimization
        self.backbone, self.lora = backbone, lora
        self.optimizer, self.lr_schedule = optimizer, lr_schedule
        self.gradient_checkpointing, self.split_backward = gradient_checkpointing, split_backward
        self.quantize, self.offload_blocks = quantize, offload_blocks
        self.acceleration = acceleration
        # Training examples and losses
        self.camera_sampling, self.rendering = camera_sampling, rendering
        self.stacking, self.flow_targets = stacking, flow_targets
        self.timestep_sampling = timestep_sampling
        self.depth_dropout, self.seed = depth_dropout, seed
        # Conditioning and inference
        self.level_scale, self.focus_range = level_scale, focus_range
        self.guidance_embed, self.position_ids = guidance_embed, position_ids
        self.conditions, self.export_dtype = conditions, export_dtype
        self.num_inference_steps, self.probe = num_inference_steps, probe
        # State
        self.strict_loading = False  # checkpoints hold trained weights only
        self.transformer: Any = None
        self.trained_size_px: int | None = None
        self.start_step = 0
        self.flow_by_time = FlowByTime()

    def configure_model(self) -> None:
        if self.transformer is not None:
            return
        self.transformer, self.codec, pooled_text, text_tokens = self.backbone.load()
        store_blocks(self.transformer, self.quantize, self.offload_blocks)
        # Adapter and camera token, initialized from the run's own seed
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
                len(pooled_text),
                0 if text_tokens is None else len(text_tokens),
            )
        self.camera.pooled_text.copy_(pooled_text)
        if text_tokens is not None:
            self.camera.text_tokens.copy_(text_tokens)
        self.sampler.family.set_conditions(self.transformer, self.conditions)
        self.leave_quantized_to_the_ranks()
        if self.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        if self.lora is not None and self._trainer and "mixed" in str(self._trainer.precision):
            self.sampler.family.share_low_precision_inputs(self.transformer)
        self.acceleration.apply(self.transformer, self.gradient_checkpointing)
        self.acceleration.apply_to_codec(self.codec)

    # --- the algorithm box ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L = L_flow + lambda L_stack, eq. (6), on one example per sample."""
        losses = self.losses(self.example(batch))
        self.loss_terms = {name: loss.detach() for name, loss in losses.items()}
        logged = losses | (self.flow_by_time.flush() if self.is_logging_step(batch_idx) else {})
        self.log_dict(
            {f"train/{name}": loss for name, loss in logged.items()}, batch_size=len(batch.key)
        )
        return losses["loss"]

    @torch.no_grad()
    def example(self, batch: Batch) -> Example:
        """Draw cameras, render their photographs and encode them (sec. 3.1 and 3.2)."""
        index = batch.index.tolist()
        # Three cameras: the reference's and two targets' on different focal planes (sec. 3.1).
        uniforms = diffusion.draw_uniform(self.seed, index, "cameras", NUM_UNIFORMS)
        cameras = draw_cameras(batch.disparity, uniforms, self.camera_sampling)
        images = self.render(batch, cameras)
        # Depth dropout: a share of the depth images is zero (sec. 3.2).
        uniform = diffusion.draw_uniform(self.seed, index, "dropout", 1)
        uniform = diffusion.to_device(uniform, self.device)
        depth = batch.disparity * (uniform >= self.depth_dropout)[:, :, None, None]
        # Latents of reference, targets and depth; stacking mask M at their size, eq. (2).
        depth_image = depth.expand(-1, 3, -1, -1)
        reference, first, second, depth_latent = self.encode(*images, depth_image)
        height, width = first.shape[-2:]
        mask = stack_mask(images[1], images[2])
        mask = downsample_mask(mask, (height, width), self.stacking.antialias)
        # One noise and one flow time for all of a sample's rows.
        noise = diffusion.draw_noise(first.shape[1:], self.seed, index, "noise")
        t = diffusion.draw_times(self.timestep_sampling, self.seed, index)
        noise, t = (diffusion.to_device(each, self.device) for each in (noise, t))
        return Example(
            reference, depth_latent, first, second, mask, cameras[1], cameras[2], noise, t
        )

    def render(self, batch: Batch, cameras: tuple[Cameras, Cameras, Cameras]) -> list[Tensor]:
        """Render the reference and the two targets, display values [b, 3, h, w]."""
        width_px = input_width_px(batch.image_srgb, self.trained_size_px)
        return photograph(
            batch.image_srgb,
            batch.disparity,
            width_px,
            cameras,
            self.rendering,
            float(self.camera_sampling.level_max),
        )

    def losses(self, x: Example) -> dict[str, Tensor]:
        """Return L_flow and L_stack and their weighted sum, eq. (6)."""
        norm, weight = self.stacking.norm, self.stacking.weight
        # Flow matching, eq. (1).
        flow_rows, v = self.flow_rows(x)

        def flow(*predictions: Tensor) -> Tensor:
            prediction = torch.cat(predictions)
            squares = mean_square_of_each(prediction.detach() - v)
            self.flow_by_time.update(x.t.repeat(len(flow_rows)), squares)
            return flow_loss(prediction, v, norm)

        if not weight:
            (loss,) = self.losses_of_rows(x, [(flow, flow_rows)])
            return {"loss": loss, "flow": loss.detach()}
        # Stacking constraint, eq. (5): the masked predictions are the stacked latent's velocity.
        v_stack = diffusion.velocity(stack_images(x.mask, x.first, x.second), x.noise)

        def stacking(prediction_1: Tensor, prediction_2: Tensor) -> Tensor:
            return stacking_loss(prediction_1, prediction_2, x.mask, v_stack, norm)

        flow_value, stack_value = self.losses_of_rows(
            x, [(flow, flow_rows), (stacking, self.stacking_rows(x))]
        )
        return {
            "loss": flow_value + weight * stack_value,
            "flow": flow_value.detach(),
            "stack": stack_value.detach(),
        }

    def flow_rows(self, x: Example) -> tuple[list[Row], Tensor]:
        """Return the rows of eq. (1), z_t of the first target (or of both), and their velocity."""
        targets = [(x.first, x.first_camera), (x.second, x.second_camera)]
        targets = targets if self.flow_targets == "both" else targets[:1]
        rows = [(diffusion.interpolate(clean, x.noise, x.t), camera) for clean, camera in targets]
        return rows, torch.cat([diffusion.velocity(clean, x.noise) for clean, _ in targets])

    def losses_of_rows(
        self, x: Example, terms: list[tuple[Callable[..., Tensor], list[Row]]]
    ) -> list[Tensor]:
        """Evaluate loss functions of their rows' predictions; `split_backward` says how."""
        trained = [p for p in self.parameters() if p.requires_grad]
        # One row's activations at a time.
        if self.split_backward == "rows":

            def predict(row: Row) -> Tensor:
                return self.predict_velocities(x, [row])[0]

            return [backward_by_rows(predict, rows, loss, trained) for loss, rows in terms]
        # One loss's at a time: all but the last are differentiated at once.
        if self.split_backward == "losses":
            *early, (last, last_rows) = terms
            values = [
                backward_early(loss(*self.predict_velocities(x, rows)), trained)
                for loss, rows in early
            ]
            return [*values, last(*self.predict_velocities(x, last_rows))]
        # All together, in one call.
        predictions = iter(self.predict_velocities(x, [row for _, rows in terms for row in rows]))
        return [loss(*islice(predictions, len(rows))) for loss, rows in terms]

    def stacking_rows(self, x: Example) -> list[Row]:
        """Return the inputs of eq. (5): the noisy stacked latent, or each target's own."""
        first, second = x.first, x.second
        if self.stacking.latent == "stack":
            first = second = stack_images(x.mask, x.first, x.second)
        return [
            (diffusion.interpolate(first, x.noise, x.t), x.first_camera),
            (diffusion.interpolate(second, x.noise, x.t), x.second_camera),
        ]

    # --- the network ---

    @property
    def sampler(self) -> Sampler:
        return Sampler(
            self.transformer,
            self.codec,
            self.camera,
            self.guidance_embed,
            self.position_ids,
            self.conditions,
        )

    def encode(self, *images: Tensor) -> list[Tensor]:
        """Encode display values in [0, 1] to float32 latents, in one call of the codec."""
        height, width = images[0].shape[-2:]
        check_token_grid(height, width, self.codec.downscale)
        return list(self.sampler.encode(torch.cat(images)).chunk(len(images)))

    def predict_velocities(self, x: Example, rows: list[Row]) -> list[Tensor]:
        """Predict the velocities of several rows of every sample in one forward pass."""
        n = len(rows)
        predictions = self.velocity(
            torch.cat([latent for latent, _ in rows]),  # [n b, c, h, w]
            x.t.repeat(n),
            x.reference.repeat(n, 1, 1, 1),
            x.depth.repeat(n, 1, 1, 1),
            torch.cat([camera.focus_point for _, camera in rows]),
            torch.cat([camera.bokeh_level for _, camera in rows]),
        )
        return list(predictions.chunk(n))

    def velocity(
        self,
        noisy: Tensor,
        t: Tensor,
        reference: Tensor,
        depth: Tensor,
        focus_point: Tensor,
        bokeh_level: Tensor,
    ) -> Tensor:
        """theta(z_t, t, I_r, D, (f_x, f_y), b); a negative level means unconditional."""
        token = self.camera(focus_point, bokeh_level)
        return self.sampler.velocity(noisy, t, reference, depth, token)

    def predict(self, batch: Batch, query: ProbeQuery) -> Tensor:
        """Refocus for a probe query; a scene has one noise, the same for all its queries."""
        disparity = batch.disparity * (self.depth_dropout < 1)
        reference, depth = self.encode(query.reference, disparity.expand(-1, 3, -1, -1))
        noise = diffusion.draw_noise(depth.shape[1:], self.seed, batch.index.tolist(), "probe")
        camera = query.camera
        return self.refocus(
            reference, depth, camera.focus_point, camera.bokeh_level, noise.to(depth)
        )

    def refocus(
        self,
        reference: Tensor,
        depth: Tensor,
        focus_point: Tensor,
        bokeh_level: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Sample images [b, 3, h, w] in [0, 1] from latents, with the run's steps and shift."""
        times = diffusion.euler_times(self.num_inference_steps, self.timestep_sampling.shift)
        return self.sampler.refocus(reference, depth, focus_point, bokeh_level, noise, times)

    @torch.no_grad()
    def measure_flow(self, batch: Batch, flow: ValidationFlow) -> None:
        """Measure eq. (1) at fixed flow times; a held-out scene has one camera and one noise."""
        x = self.example(batch)
        for t in VALIDATION_TIMES:
            at_t = x._replace(t=torch.full_like(x.t, t))
            rows, v = self.flow_rows(at_t)
            residual = torch.cat(self.predict_velocities(at_t, rows)) - v
            flow.update(t, mean_square_of_each(residual))

    def export(self, folder: Path) -> None:
        # A base model
        if self.lora is None:
            export_base(folder, self.transformer, self.codec)
            return
        # An adapter
        settings = RefocusSettings(
            backbone=describe(self.backbone),
            guidance_embed=self.guidance_embed,
            position_ids=self.position_ids,
            conditions=self.conditions,
            num_inference_steps=self.num_inference_steps,
            time_shift=self.timestep_sampling.shift,
            size_px=self.trained_size_px,
            uses_depth=self.depth_dropout < 1,
            level_max=float(self.camera_sampling.level_max),
        )
        dtype = getattr(torch, self.export_dtype)
        export_adapter(folder, self.transformer, self.camera, settings, dtype)
