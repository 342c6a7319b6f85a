"""Steps of a `Text2Image` without a Trainer: to count their work on the meta device and the CPU."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dofsuite.backbones import Sdxl, SdxlModules, SmallDepth, SmallSaliency, VaeCodec
from dofsuite.backbones.small.word_encoder import WordEncoder
from dofsuite.data import Batch
from dofsuite.text2image import Text2Image
from dofsuite.text2image.dmd2.sample_buffer import GeneratedSample
from dofsuite.text2image.networks import FocusPredictorConfig
from tests.text2image.tiny_unet import POOLED_DIM, TOKEN_DIM, TOKENS, tiny_unet


def photographs(
    size_px: int, step: int, is_shallow: bool, rows: int = 1, captions: str = ""
) -> Batch:
    """A batch as the loader makes it; its index is a number even where nothing else is."""
    index = torch.tensor(range(step * rows, (step + 1) * rows), device="cpu")
    return Batch(
        image_srgb=torch.rand(rows, 3, size_px, size_px),
        disparity=torch.rand(rows, 1, size_px, size_px),
        has_depth=torch.ones(rows, dtype=torch.bool),
        source=torch.full((rows,), int(is_shallow)),
        index=index,
        key=[f"photograph {step}"] * rows,
        width_px=torch.full((rows,), float(size_px)),
        valid=torch.ones(rows, 1, size_px, size_px, dtype=torch.bool),
        caption=[captions] * rows,
        f_number=torch.full((rows,), 2.0),
        focal_length_mm=torch.full((rows,), 50.0),
        sensor_width_mm=torch.full((rows,), torch.nan),
        prompt_tokens=torch.zeros(rows, 0, 0),
        prompt_pooled=torch.zeros(rows, 0),
    )


def step_losses(
    module: Text2Image, batch: Batch, index: int, sample: GeneratedSample | None
) -> tuple[Tensor, GeneratedSample | None]:
    """The sum of one step's losses and the generated sample, as `training_step` takes it."""
    step = module.stages.step(index)
    module.set_requires_grad(module.active_optimizers(step))
    losses, generated = module.losses(step, batch, sample if step.reuses_generator_sample else None)
    return torch.stack(list(losses.values())).sum(), generated


def take_step(
    module: Text2Image, batch: Batch, index: int, sample: GeneratedSample | None
) -> GeneratedSample | None:
    """Forward and backward of one step, no optimizer step; returns the generated sample."""
    loss, generated = step_losses(module, batch, index, sample)
    loss.backward()
    return generated


class MatrixWork(TorchDispatchMode):
    """Counts FLOPs as torch's FlopCounterMode does, but without its hooks on every module, and
    notes their dtypes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.dtypes: dict[tuple[str, ...], set[torch.dtype]] = {}
        """(Name of the operator, part of the work) to the dtypes of the floating point tensors that
        it was given.
        """
        self.part = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__
        rule = flop_registry.get(func._overloadpacket)
        if rule is not None:
            self.flops += rule(*args, **(kwargs or {}), out_val=out)
        if (
            rule is not None
            or name in ("mv", "addmv", "dot", "addbmm")
            or "scaled_dot_product" in name
        ):
            named = zip(func._schema.arguments, args, strict=False)
            # Attention keeps its normalizer in float32, one number per row: no operand of the
            # products.
            operands = [
                a for field, a in named if isinstance(a, Tensor) and field.name != "logsumexp"
            ]
            given = {a.dtype for a in operands if a.is_floating_point()}
            self.dtypes.setdefault((name, self.part), set()).update(given)
        return out


class TinyVaeSdxl(Sdxl):
    """SDXL's parts with a VAE like its own, in bfloat16 as by default; images of 64 px are
    latents of 8 x 8.
    """

    def load(self) -> SdxlModules:
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
        )
        prompts = WordEncoder(TOKENS, TOKEN_DIM, POOLED_DIM)
        return SdxlModules(
            tiny_unet().eval().requires_grad_(False), VaeCodec(vae.bfloat16()), prompts
        )


def tiny(backbone: Sdxl | None = None, **changes: Any) -> Text2Image:
    """The module over small random networks, for images of 64 px."""
    small = dict(
        depth=SmallDepth(weights=None),
        saliency=SmallSaliency(weights=None),
        focus=FocusPredictorConfig(small=True),
    )
    module = Text2Image(backbone or TinyVaeSdxl(), **{**small, "size_px": 64, **changes})
    module.configure_model()
    return module
