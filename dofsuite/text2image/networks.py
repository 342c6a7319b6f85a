"""All networks of a run, and the conditioned denoisers through which its losses call them.

Generator and fake score start as copies of the teacher. What a run does not train is frozen, in no
checkpoint, and gets no weight gradient.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dofsuite.backbones import Acceleration, Depth, PromptEmbeds, Saliency, Sdxl
from dofsuite.backbones.sdxl.adapters import UnetLora
from dofsuite.backbones.sdxl.prompt_encoder import embeds_of
from dofsuite.backbones.sdxl.unet_weights import load_unet_weights
from dofsuite.data import Batch
from dofsuite.diffusion import scaled_linear_alphas_cumprod, to_device
from dofsuite.errors import UserError
from dofsuite.text2image.camera.exif import saved_embedder, with_exif
from dofsuite.text2image.camera.focus_predictor import FocusPredictor
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.dmd2.discriminator import Discriminator
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from dofsuite.text2image.dmd2.trained_weights import (
    TrainedWeights,
    frozen_to_bfloat16,
    share_frozen,
    with_lora,
)
from dofsuite.text2image.dmd2.working_copy import WorkingCopy, run_in_own_precision
from dofsuite.training.sharding.fsdp import meta_copy

# The three networks that have SDXL's shape; `critic` is the fake score.
Name = Literal["generator", "critic", "teacher"]
UNETS: tuple[Name, ...] = ("generator", "critic", "teacher")


@dataclass(frozen=True)
class FocusPredictorConfig:
    """Which focus predictor; what is not said here has the defaults of `FocusPredictor`."""

    small: bool = False
    """The one for images of about 64 px."""
    focus_readout: Literal["token", "weighted_sum"] = "token"
    """How f_d is predicted (see `FocusPredictor`)."""
    initial_scale_mm: float = 1000.0
    """f_s before training, mm per unit of depth."""
    largest_scale_factor: float = 30.0
    """f_s stays within this factor of it; near 1 where the depth is known to be metric (*ours*)."""

    def __post_init__(self) -> None:
        if not 0 < self.initial_scale_mm < math.inf:
            raise ValueError(
                f"initial_scale_mm must be above 0 and finite, not {self.initial_scale_mm}"
            )
        if not 1 <= self.largest_scale_factor < math.inf:
            raise ValueError(
                f"largest_scale_factor must be 1 or more and finite, not "
                f"{self.largest_scale_factor}"
            )

    def build(self) -> FocusPredictor:
        constructor = FocusPredictor.small if self.small else FocusPredictor
        return constructor(
            focus_readout=self.focus_readout,
            initial_scale_mm=self.initial_scale_mm,
            largest_scale_factor=self.largest_scale_factor,
        )


class Networks(nn.Module):
    """All networks of a run, frozen; `trained` names those that may learn."""

    def __init__(
        self,
        backbone: Sdxl,
        depth: Depth,
        saliency: Saliency | None,
        focus: FocusPredictorConfig,
        exif_conditioned: tuple[Name, ...],
        size_px: int,
        has_lens: bool,
        discriminator_dtype: Literal["float32"] | None,
        gradient_checkpointing: bool,
        teacher_dtype: Literal["float32", "bfloat16"] = "float32",
        generator_from: str | None = None,
        loras: Mapping[Name, UnetLora] | None = None,
        sharded: bool = False,
    ) -> None:
        """Load the frozen networks and build the trained ones; arguments as `Text2Image`'s.

        `saliency`: None where the data brings the focus targets. `loras`: of generator and fake
        score, those that train adapters alone. `sharded`: build the three UNets on the meta device,
        for `fsdp.shard_networks`.

        Raises:
            UserError: Weights cannot be loaded or do not fit, or the backbone's levels do not
                divide the side.
        """
        super().__init__()
        # What the camera's networks lack is said before SDXL is loaded.
        of_camera = {"model.depth": depth, "model.saliency": saliency} if has_lens else {}
        for key, description in of_camera.items():
            if description is not None:
                description.check_runnable(key)
        # The real score, and its copies: all three get the EXIF embedding, so that weights can be
        # copied between them; only the named ones are given EXIF.
        teacher, self.codec, self.prompts, self.prediction = backbone.load()
        self.exif_conditioned, self.size_px = exif_conditioned, size_px
        downsampling = self.codec.downscale * 2 ** (len(teacher.config.block_out_channels) - 1)
        if size_px < downsampling or size_px % downsampling:
            nearest = max(1, round(size_px / downsampling)) * downsampling
            raise UserError(
                f"model.size_px: {size_px} is no multiple of {downsampling}, the pixels of this "
                f"backbone's coarsest feature; give {nearest} here and for data.size_px."
            )
        generator = teacher
        if generator_from is not None:
            generator = copy.deepcopy(teacher)
            load_unet_weights(generator, generator_from, "model.generator_from")
        trained_embedder = saved_embedder(backbone.folder)
        if trained_embedder is not None and "teacher" not in exif_conditioned:
            raise UserError(
                f"model.exif_conditioned: the weights in {backbone.folder} were trained with EXIF; "
                "name teacher there too."
            )
        if exif_conditioned:
            embedder = with_exif(teacher, trained_embedder).time_embedding.exif
            if generator is not teacher:
                with_exif(generator, copy.deepcopy(embedder))
        starts: dict[str, Any] = {"teacher": teacher, "generator": generator, "critic": teacher}
        # With LoRA the copies have the teacher's own weights; FSDP2 deals each network its part.
        loras = loras or {}
        self.described_loras = [f"of the {name}: {lora}" for name, lora in loras.items()]
        self.sharing = [name for name in loras if starts[name] is teacher and not sharded]
        starts |= {name: with_lora(starts[name], lora) for name, lora in loras.items()}

        # To be sharded, they are built without weights, and each rank is dealt its part of these.
        def built(name: Name) -> Any:
            if sharded:
                return meta_copy(starts[name])
            return starts[name] if name in loras else copy.deepcopy(starts[name])

        self.loaded = starts if sharded else {}
        self.teacher = meta_copy(teacher) if sharded else teacher
        self.generator, self.critic = built("generator"), built("critic")
        # What stays frozen, in the teacher's precision.
        if teacher_dtype == "bfloat16":
            self.teacher.bfloat16()
            for name in loras:
                frozen_to_bfloat16(getattr(self, name))

        # The discriminator on the fake score's mid-block features.
        self.discriminator = Discriminator(
            teacher.config.block_out_channels[-1],
            size_px // downsampling,
            discriminator_dtype == "float32",
        )

        # The camera: depth, saliency (the focus target) and focus predictor.
        self.depth = depth.load() if has_lens else None
        # Where it is loaded, the focus predictor begins no differently.
        with torch.random.fork_rng(devices=[]):
            self.saliency = saliency.load() if has_lens and saliency is not None else None
        self.focus = focus.build() if has_lens else None
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", scaled_linear_alphas_cumprod(), persistent=False)

        if gradient_checkpointing:  # does nothing in forwards without gradient
            for name in UNETS:
                getattr(self, name).enable_gradient_checkpointing()
        self._encoded: dict[tuple[tuple[str, ...], torch.device], PromptEmbeds] = {}
        # Outside the module tree: what a checkpoint or DDP would see is the float32 weights.
        self.working: dict[Name, WorkingCopy] = {}
        self.requires_grad_(False)

    def use_working_copies(self) -> None:
        """Call the three UNets in bfloat16 from now on; `bind_working_copies` before each step."""
        for name in UNETS:
            unet = getattr(self, name)
            if any(weight.dtype == torch.float32 for weight in unet.parameters()):
                self.working[name] = WorkingCopy(unet)
            else:
                run_in_own_precision(unet)

    def accelerate(self, acceleration: Acceleration) -> None:
        """Set attention and compiled blocks of the UNets in training, and the VAE's layout."""
        acceleration.apply_to_codec(self.codec)
        for name in UNETS:
            working = self.working.get(name)
            unet: Any = getattr(self, name) if working is None else working.network
            acceleration.apply(unet, recompute=unet.is_gradient_checkpointing)

    def bind_working_copies(self) -> None:
        for copy_of in self.working.values():
            copy_of.bind()

    def release_working_copies(self) -> None:
        for copy_of in self.working.values():
            copy_of.release()

    def denoiser(self, name: Name, cond: Conditioning) -> ConditionedDenoiser:
        """Return one of the three UNets with prompts and, if conditioned on it, EXIF bound."""
        working = self.working.get(name)
        return ConditionedDenoiser(
            unet=getattr(self, name) if working is None else working.network,
            prompt=self.encoded(cond),
            exif=cond.full_frame_exif.stacked() if name in self.exif_conditioned else None,
            downscale=self.codec.downscale,
            alphas_cumprod=self.alphas_cumprod,
            prediction=self.prediction,
        )

    def encoded(self, cond: Conditioning) -> PromptEmbeds:
        """Return the prompts as the data brings them, or encoded; a step's few calls share them."""
        captions, device = tuple(cond.caption), cond.f_number.device
        if (captions, device) not in self._encoded:
            embeds = embeds_of(self.prompts, cond.caption, cond.prompt_tokens, cond.prompt_pooled)
            # A critic step has two batches' at most.
            for oldest in list(self._encoded)[:-1]:
                del self._encoded[oldest]
            moved = (to_device(each, device) for each in embeds)
            self._encoded[captions, device] = PromptEmbeds(*moved)
        return self._encoded[captions, device]

    def trained(self, with_teacher: bool) -> dict[str, TrainedWeights]:
        """Return what each optimizer trains; fake score and discriminator share one."""
        groups = {
            "generator": TrainedWeights(self.generator),
            "critic": TrainedWeights(self.critic, self.discriminator),
        }
        if self.focus is not None:
            groups["focus"] = TrainedWeights(self.focus)
        if with_teacher:
            groups["teacher"] = TrainedWeights(self.teacher)
        return groups

    def share_frozen(self, ema_generator: nn.Module | None = None) -> None:
        """Let networks with LoRA, and the generator's average, call the same frozen weights again.

        To be called when these have been copied or emptied.
        """
        for name in self.sharing:
            share_frozen(getattr(self, name), self.teacher)
        if ema_generator is not None and not self.loaded:
            share_frozen(ema_generator, self.generator)

    def init_from_teacher(self) -> None:
        for unet in (self.generator, self.critic):
            unet.load_state_dict(self.teacher.state_dict())

    def latent_shape(self, image: Tensor) -> tuple[int, int, int]:
        """Return (channels, height, width) of one image's latent."""
        height, width = (size // self.codec.downscale for size in image.shape[-2:])
        return self.teacher.config.in_channels, height, width

    def decode(self, latent: Tensor) -> Tensor:
        """Decode to display values, about [0, 1]; not clamped, so that gradients pass."""
        return (self.codec.decode(latent) + 1) / 2

    def latents(self, batch: Batch) -> Tensor:
        """Return the photographs' latents as the data brings them, or encoded."""
        return batch.latent.float() if batch.latent.numel() else self.encode(batch.image_srgb)

    def encode(self, image_srgb: Tensor) -> Tensor:
        return self.codec.encode(image_srgb * 2 - 1).float()
