"""What of a refocus run is not in the paper: optimizer, checkpoints, validation, logging."""

from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dofsuite.backbones import Codec
from dofsuite.backbones.quantization import Quantization
from dofsuite.data import Batch, check_has_depth
from dofsuite.refocus.flow_by_time import FlowByTime, ValidationFlow
from dofsuite.refocus.probe import Probe, ProbeQuery, ProbeRun
from dofsuite.refocus.rendering import Rendering
from dofsuite.training import check_compatible, run_folder
from dofsuite.training.lr_schedule import LrSchedule, start_step
from dofsuite.training.optimizers import fuse
from dofsuite.training.run.log import logs_this_step
from dofsuite.training.run.nonfinite import clip_gradients, gradient_norm
from dofsuite.training.sample_sheet import log_sheet


class RefocusRun(pl.LightningModule):
    """The hooks of `Refocus`."""

    optimizer: OptimizerCallable
    lr_schedule: LrSchedule
    start_step: int
    trained_size_px: int | None
    probe: Probe
    rendering: Rendering
    seed: int
    flow_by_time: FlowByTime
    codec: Codec
    quantize: Quantization

    @abstractmethod
    def predict(self, batch: Batch, query: ProbeQuery) -> Tensor:
        """Refocus for a probe query."""

    @abstractmethod
    def measure_flow(self, batch: Batch, flow: ValidationFlow) -> None:
        """Measure the flow loss of held-out scenes at fixed times."""

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = fuse(self.optimizer([p for p in self.parameters() if p.requires_grad]))
        max_steps, start = self.trainer.max_steps, self.start_step
        scheduler = LambdaLR(
            optimizer, lambda step: self.lr_schedule.factor(step, max_steps, start)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def leave_quantized_to_the_ranks(self) -> None:
        """Keep DDP from broadcasting a quantized base, which it cannot do with torchao's tensors.

        Every rank has read the same weights.
        """
        if self.quantize == "none":
            return
        frozen = [name for name, weight in self.named_parameters() if not weight.requires_grad]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, frozen)

    def on_fit_start(self) -> None:
        # Keep the size of the training images for the export.
        datamodule = getattr(self.trainer, "datamodule", None)
        self.trained_size_px = getattr(datamodule, "size_px", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_compatible(
            checkpoint["state_dict"],
            self,
            names="model.lora (its targets, or null)",
            shapes="model.lora.rank or model.backbone",
        )
        self.start_step = start_step(checkpoint)
        if "flow_by_time" in checkpoint:
            self.flow_by_time.load_state_dict(checkpoint["flow_by_time"])

    def check_batch(self, batch: Batch) -> None:
        # `ShardData` calls it while the batch is on the CPU, where looking waits for nothing.
        check_has_depth(batch)  # without it nothing is blurred

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Before clipping, and only where it is logged.
        if logs_this_step(self.trainer):
            self.log("train/gradient_norm", gradient_norm(self, optimizer))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm that is checked and logged; Lightning computes one of its own."""
        is_scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if is_scaled or gradient_clip_algorithm == "value" or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_gradients(self, optimizer, gradient_clip_val)

    def on_validation_epoch_start(self) -> None:
        self._probe_run = ProbeRun(
            self.probe,
            self.rendering,
            self.seed,
            self.predict,
            self.trainer.world_size,
            self.trainer.global_rank,
            2 * self.codec.downscale,
        )
        # Also on a rank without a batch: NCCL reduces nothing on the CPU.
        self._probe_run.metrics.to(self.device)
        self._validation_flow = ValidationFlow(self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        check_has_depth(batch)
        if self._probe_run.scenes_left > 0:
            self.measure_flow(batch, self._validation_flow)
        self._probe_run.update(batch)

    def on_validation_epoch_end(self) -> None:
        values = self._probe_run.values()
        self.log_dict({f"probe/{name}": value for name, value in values.items()})
        flow = self._validation_flow.values()
        self.log_dict({f"val/{name}": value for name, value in flow.items()})
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            folder, step = run_folder(self.trainer), self.trainer.global_step
            sheet = self._probe_run.write(folder, step, values)
            if sheet is not None:
                log_sheet(self.trainer.loggers, "sheets/refocus", sheet, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            k: v for k, v in checkpoint["state_dict"].items() if k in trained
        }
        checkpoint["flow_by_time"] = self.flow_by_time.state_dict()

    def is_logging_step(self, batch_idx: int) -> bool:
        """Whether this is the last micro-batch of a step that Lightning logs."""
        is_last = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        return is_last and logs_this_step(self.trainer)
