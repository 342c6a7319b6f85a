"""Camera Settings as Tokens (Fang et al., SIGGRAPH Asia 2024) for SDXL: a baseline, reimplemented.

The logarithms of f-number and focal length become tokens after the text tokens; SDXL is fine-tuned
on photographs by denoising. A variant is conditioned on the scene's depth by a ControlNet (paper 1,
figure A1). There is no lens: each aperture is a separate generation. Implemented from the paper's
description, not from its code.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from dofsuite.backbones import Depth, DepthAnything, PretrainedSdxl, Sdxl
from dofsuite.backbones.descriptors import describe
from dofsuite.backbones.sdxl.adapters import ControlledUnet, DepthControl, UnetLora
from dofsuite.backbones.sdxl.beforehand import beforehand_of
from dofsuite.backbones.sdxl.prompt_encoder import embeds_of
from dofsuite.baselines.camera_tokens.export import CameraTokensNetworks, export
from dofsuite.baselines.camera_tokens.settings import CameraTokensSettings
from dofsuite.baselines.camera_tokens.tokens import CameraTokens, inverse_depth_image
from dofsuite.data import Batch
from dofsuite.data.sidecar import Beforehand
from dofsuite.diffusion import add_noise, draw_noise, draw_uniform, scaled_linear_alphas_cumprod
from dofsuite.files import write_json
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.dmd2.checks import check_precision
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.dmd2.losses import denoising_loss
from dofsuite.training import run_folder


class CameraTokensModule(pl.LightningModule):
    """SDXL conditioned on camera tokens, fine-tuned on photographs with EXIF."""

    def __init__(
        self,
        backbone: Sdxl = PretrainedSdxl(),  # noqa: B008  (light descriptions, never changed)
        lora: UnetLora | None = UnetLora(),  # noqa: B008
        control: DepthControl | None = None,
        depth: Depth = DepthAnything(),  # noqa: B008
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-4),
        token_size: float = 0.0,
        cond_dropout: float = 0.1,
        size_px: int = 1024,
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        """Configure the training; weights are loaded when it begins.

        Args:
            backbone: Which SDXL. Paper: Stable Diffusion 1 and 2 at 512 px; SDXL is on its authors'
                list.
            lora: The adapter; null trains all of the UNet's weights.
            control: A ControlNet on the photographs' depth, trained with the adapter; null for
                none.
            depth: The frozen depth model of its image; not loaded without `control`.
            optimizer: Paper: learning rate 1e-4, batch size 128 (*stated*); AdamW (*inferred*).
            token_size: Size of the camera tokens before training (see `CameraTokens`).
            cond_dropout: Share of samples whose text and camera tokens are dropped (zeros), for
                classifier-free guidance on both (*ours*).
            size_px: Side of the images.
            gradient_checkpointing: Recompute UNet blocks in the backward pass.
            seed: Noise, times and dropout follow from it and the sample's position in the run.
        """
        super().__init__()
        if not 0 <= cond_dropout < 1:
            raise ValueError(
                f"cond_dropout: a share from 0 to below 1 is expected, not {cond_dropout}"
            )
        self.backbone, self.lora = backbone, lora
        self.control, self.depth = control, depth
        self.optimizer, self.seed = optimizer, seed
        self.token_size, self.cond_dropout = token_size, cond_dropout
        self.size_px, self.gradient_checkpointing = size_px, gradient_checkpointing
        self.alphas_cumprod = scaled_linear_alphas_cumprod()
        self.strict_loading = False  # checkpoints hold trained weights only
        self.unet: Any = None

    @property
    def beforehand(self) -> dict[str, Beforehand]:
        """What of the photographs and captions the data may bring, by kind of side-car."""
        return {**beforehand_of(self.backbone)}

    def configure_model(self) -> None:
        if self.unet is not None:
            return
        modules = self.backbone.load()
        self.unet, self.codec = modules.unet, modules.codec
        self.prompts, self.prediction = modules.prompts, modules.prediction
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            # The ControlNet copies the UNet's layers: before an adapter adds its own.
            self.controlnet = (
                self.control.load(self.unet, self.codec.downscale) if self.control else None
            )
            if self.lora is None:
                self.unet.requires_grad_(True)
            else:
                self.lora.attach(self.unet)
            self.tokens = CameraTokens(
                self.unet.config.cross_attention_dim, initial_size=self.token_size
            )
        self.depth_model: Any = self.depth.load() if self.control else None
        if self.controlnet is not None:
            self.controlnet.requires_grad_(True)
        if self.gradient_checkpointing:
            for network in filter(None, (self.unet, self.controlnet)):
                network.enable_gradient_checkpointing()

    def denoising(self, batch: Batch) -> Tensor:
        """L = mean w_t (eps_theta(x_t, t, text, camera[, depth]) - eps)^2, with CFG dropout."""
        index = batch.index.tolist()
        with torch.no_grad():
            x = batch.latent
            if not x.numel():
                x = self.codec.encode(batch.image_srgb * 2 - 1)
            x = x.float()

        # Forward process at a uniform random t.
        uniform = draw_uniform(self.seed, index, "camera tokens time", 1)[:, 0]
        t = (uniform * len(self.alphas_cumprod)).long().to(self.device)
        noise = draw_noise(x.shape[1:], self.seed, index, "camera tokens noise").to(self.device)
        x_t = add_noise(x, noise, t, self.alphas_cumprod)

        # Drop text and camera tokens together.
        uniform = draw_uniform(self.seed, index, "camera tokens told", 1)
        keep_cond = (uniform >= self.cond_dropout).to(self.device)
        denoiser = self.denoiser(batch).without_prompt(keep_cond)
        return denoising_loss(denoiser.noise(x_t, t), noise, denoiser.denoising_weight(t))

    def denoiser(self, batch: Batch) -> ConditionedDenoiser:
        prompt = embeds_of(
            self.prompts, batch.caption, batch.prompt_tokens, batch.prompt_pooled
        ).to(self.device)
        # Of the full-frame camera with the same view and depth of field, as a user names it.
        exif = Exif(batch.f_number, batch.focal_length_mm).on_full_frame(batch.sensor_width_mm)
        prompt = self.tokens.appended_to(prompt, exif)
        unet = self.unet
        if self.controlnet is not None:
            with torch.no_grad():
                image = inverse_depth_image(self.depth_model(batch.image_srgb))
            unet = ControlledUnet(self.unet, self.controlnet, image, 1.0)
        return ConditionedDenoiser(
            unet, prompt, None, self.codec.downscale, self.alphas_cumprod, self.prediction
        )

    # --- Lightning ---

    def setup(self, stage: str) -> None:
        check_precision(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.denoising(batch)
        self.log("train/denoising", loss, batch_size=len(batch.key))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/denoising", self.denoising(batch), batch_size=len(batch.key), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            loss = self.trainer.callback_metrics.get("val/denoising")
            values = {} if loss is None else {"val/denoising": float(loss)}
            write_json(
                run_folder(self.trainer) / "metrics.json",
                {"step": self.trainer.global_step, **values},
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(
            [parameter for parameter in self.parameters() if parameter.requires_grad]
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            k: v for k, v in checkpoint["state_dict"].items() if k in trained
        }

    def export(self, folder: Path) -> None:
        networks = CameraTokensNetworks(
            self.unet,
            self.codec,
            self.prompts,
            self.prediction,
            self.tokens,
            self.controlnet,
            self.depth_model,
        )
        # What sampling must know of them.
        settings = CameraTokensSettings(
            backbone=describe(self.backbone),
            lora=self.lora is not None,
            control=self.control is not None,
            depth=describe(self.depth),
            size_px=self.size_px,
        )
        export(networks, settings, folder)
