"""Camera Settings as Tokens (Fang et al., SIGGRAPH Asia 2024) for SDXL: a baseline, in an implementation of our own.

The logarithms of f-number and focal length become tokens behind the text's; SDXL learns to read
them by denoising photographs. Its variant sees the scene's depth through a ControlNet too (paper 1,
figure A1). There is no lens: every aperture is a generation of its own. Written from the paper's
description (facts/text2image.md E), not from its code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from dofsuite.backbones import Depth, DepthAnything, PretrainedSdxl, PromptEmbeds, Sdxl
from dofsuite.backbones.sdxl.adapters import ControlledUnet, DepthControl, UnetLora
from dofsuite.data import Batch
from dofsuite.diffusion import add_noise, draw_noise, draw_uniform, scaled_linear_alphas_cumprod
from dofsuite.files import write_json
from dofsuite.images import minmax_normalize
from dofsuite.text2image.camera.exif import F_NUMBERS, FOCAL_LENGTHS_MM, Exif
from dofsuite.text2image.camera.focus_predictor import finite_depth
from dofsuite.text2image.dmd2.checks import check_precision
from dofsuite.text2image.dmd2.losses import denoising_loss
from dofsuite.training import run_folder

CAMERA_FIELDS = ("f_number", "focal_length_mm")
"""Paper: focal length, f-number, ISO and exposure time. Here: the two that bear on depth of field and that our samples
carry."""

HIDDEN_SIZE = 0.3
"""Root mean square of what new first layers give for numbers in [-1, 1] (measured)."""


class CameraTokens(ModelMixin, ConfigMixin):
    """f-number and focal length -> one token each, [b, 2, dim].

    Paper: log(v + 1e-6), a linear that starts at zero, LayerNorm. Here: the logarithm stretched so
    that the range a user may ask for spans -1 to 1, and two linears of which the last starts at
    zero, without a norm, because the gradient through LayerNorm at a constant vector has no
    direction. An item without EXIF (nan) has tokens of zeros.
    """

    @register_to_config
    def __init__(self, dim: int = 2048, hidden: int = 256, initial_size: float = 0.0) -> None:
        """Make the tokens' networks.

        Args:
            dim: Width of a text token (SDXL: 2048).
            hidden: Width between the two linears (*ours*).
            initial_size: About the tokens' root mean square before training (*ours*). 0 for an SDXL
                that can read text; 3, larger than words, for a new network, which from zeros learns
                hardly at all to read them.
        """
        super().__init__()
        self.settings = nn.ModuleList(
            nn.Sequential(nn.Linear(1, hidden), nn.SiLU(), nn.Linear(hidden, dim))
            for _ in CAMERA_FIELDS
        )
        for layers in self.settings:
            nn.init.normal_(layers[-1].weight, std=initial_size / (HIDDEN_SIZE * hidden**0.5))
            nn.init.zeros_(layers[-1].bias)

    def forward(self, exif: Float[Tensor, "b 2"]) -> Float[Tensor, "b 2 dim"]:
        """Make the tokens of `Exif.stacked()`: (f-number, focal length in mm)."""
        exif = exif.float()
        known = torch.isfinite(exif).all(dim=1)
        low, high = exif.new_tensor([F_NUMBERS, FOCAL_LENGTHS_MM]).log().unbind(1)
        stretched = (
            2
            * (torch.where(known[:, None], exif, torch.ones_like(exif)).log() - low)
            / (high - low)
            - 1
        )
        tokens = [layers(stretched[:, i : i + 1]) for i, layers in enumerate(self.settings)]
        return torch.stack(tokens, dim=1) * known[:, None, None]

    def appended_to(self, prompt: PromptEmbeds, exif: Exif) -> PromptEmbeds:
        """Put the tokens behind the text's; the pooled vector stays as it is."""
        tokens = self(exif.stacked()).to(prompt.tokens)
        return PromptEmbeds(torch.cat([prompt.tokens, tokens], dim=1), prompt.pooled)


def nearness(depth: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return inverse depth, 0 at the farthest and 1 at the nearest of each picture, as a grey picture (*inferred*).

    Depth ControlNets are trained on relative inverse depth. A scene of one depth is 0 everywhere.
    """
    return minmax_normalize(1 / finite_depth(depth).clamp(min=1e-6)).expand(-1, 3, -1, -1)


class CameraSettings(pl.LightningModule):
    """SDXL learns to read camera tokens by denoising photographs of known EXIF."""

    def __init__(
        self,
        backbone: Sdxl = PretrainedSdxl(),  # noqa: B008  (light descriptions, never changed)
        lora: UnetLora | None = UnetLora(),  # noqa: B008
        control: DepthControl | None = None,
        depth: Depth = DepthAnything(),  # noqa: B008
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-4),
        token_size: float = 0.0,
        untold: float = 0.1,
        size_px: int = 1024,
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        """Describe the training; weights are loaded when it begins.

        Args:
            backbone: Which SDXL. Paper: Stable Diffusion 1 and 2 at 512 px; SDXL is on its authors'
                list.
            lora: The adapter; null trains all of the UNet's weights.
            control: A ControlNet that sees the photographs' depth and learns beside the adapter;
                null for none.
            depth: The frozen depth model that it sees through; not loaded without `control`.
            optimizer: Paper: a rate of 1e-4, batches of 128 (*stated*); AdamW (*inferred*).
            token_size: Size of the camera tokens before training (see `CameraTokens`).
            untold: Share of samples whose text and camera tokens are zeros, so that guidance has
                something to guide from, the camera included (*ours*).
            size_px: Side of the pictures.
            gradient_checkpointing: Recompute UNet blocks in the backward pass.
            seed: Noise, times and dropout follow from it and the sample's position in the run.
        """
        super().__init__()
        if not 0 <= untold < 1:
            raise ValueError(f"untold: a share from 0 to below 1 is expected, not {untold}")
        self.backbone, self.lora, self.control, self.depth = backbone, lora, control, depth
        self.optimizer, self.token_size, self.untold = optimizer, token_size, untold
        self.size_px, self.seed = size_px, seed
        self.gradient_checkpointing = gradient_checkpointing
        self.alphas = scaled_linear_alphas_cumprod()
        self.strict_loading = False  # checkpoints hold trained weights only
        self.unet: Any = None

    def configure_model(self) -> None:
        """Load the frozen networks and add what is trained: adapter (or all weights), camera tokens, ControlNet."""
        if self.unet is not None:
            return
        self.unet, self.codec, self.prompts, self.prediction = self.backbone.load()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            # Before the adapter, whose layers the ControlNet does not have.
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
        self.depth_model = self.depth.load() if self.control else None
        if self.controlnet is not None:
            self.controlnet.requires_grad_(True)
        if self.gradient_checkpointing:
            for network in filter(None, (self.unet, self.controlnet)):
                network.enable_gradient_checkpointing()

    def denoising(self, batch: Batch) -> Tensor:
        """L = mean w_t (eps_theta(x_t, t, text, camera[, depth]) - eps)^2, a tenth of text and camera untold."""
        index = batch.index.tolist()
        with torch.no_grad():
            x = self.codec.encode(batch.image_srgb * 2 - 1).float()
        t = (
            (draw_uniform(self.seed, index, "camera tokens time", 1)[:, 0] * len(self.alphas))
            .long()
            .to(self.device)
        )
        noise = draw_noise(x.shape[1:], self.seed, index, "camera tokens noise").to(self.device)
        noisy = add_noise(x, noise, t, self.alphas)
        told = (draw_uniform(self.seed, index, "camera tokens told", 1) >= self.untold).to(
            self.device
        )
        ask = self.ask(batch)
        ask = ask._replace(
            prompt=PromptEmbeds(ask.prompt.tokens * told[..., None], ask.prompt.pooled * told)
        )
        return denoising_loss(ask.noise(noisy, t), noise, ask.denoising_weight(t))

    def ask(self, batch: Batch) -> Ask:
        """Return the UNet with text, camera and, where there is a ControlNet, the pictures' depth filled in."""
        prompt = self.prompts.encode(batch.caption).to(self.device)
        prompt = self.tokens.appended_to(prompt, Exif(batch.f_number, batch.focal_length_mm))
        unet = self.unet
        if self.controlnet is not None:
            with torch.no_grad():
                picture = nearness(self.depth_model(batch.image_srgb))
            unet = ControlledUnet(self.unet, self.controlnet, picture, 1.0)
        return Ask(unet, prompt, None, self.codec.downscale, self.alphas, self.prediction)

    # --- Lightning ---

    def setup(self, stage: str) -> None:
        """Refuse a precision that does not keep the weights in float32."""
        check_precision(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Denoise photographs."""
        loss = self.denoising(batch)
        self.log("train/denoising", loss, batch_size=len(batch.key))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Denoise held-out ones, with noise of each picture's own."""
        self.log("val/denoising", self.denoising(batch), batch_size=len(batch.key), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Write the loss to the run folder."""
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            loss = self.trainer.callback_metrics.get("val/denoising")
            values = {} if loss is None else {"val/denoising": float(loss)}
            write_json(
                run_folder(self.trainer) / "metrics.json",
                {"step": self.trainer.global_step, **values},
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimiser over what is trained."""
        return self.optimizer(
            [parameter for parameter in self.parameters() if parameter.requires_grad]
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained; frozen networks come from the backbone."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            k: v for k, v in checkpoint["state_dict"].items() if k in trained
        }

    def export(self, folder: Path) -> None:
        """Write tokens, adapter (or UNet) and ControlNet as safetensors in folders that diffusers loads."""
        from dofsuite.baselines.camera_tokens.export import export

        export(self, folder)
