"""Faster denoisers by the libraries' own switches: compiled blocks and attention kernels."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from dofsuite.backbones.codec import VaeCodec
from dofsuite.errors import UserError


@dataclass(frozen=True)
class Acceleration:
    """How a diffusers transformer or UNet is run; the numbers change by rounding alone."""

    compile: Literal["none", "blocks"] = "none"
    """`blocks`: torch.compile of every repeated block, each as one graph. A minute at the start;
    FLUX.1-dev at 512 px then trains 1.5 times as fast on an H200 (docs/performance.md)."""
    attention: str = "auto"
    """`auto`: torch's scaled dot product attention, without its cuDNN kernel where blocks are
    recomputed; `sdpa`: with all of its kernels; or a backend of diffusers for FLUX, such as
    `flash_hub`, `_flash_3`, `_native_cudnn`, `sage`."""
    channels_last: bool = False
    """Store the VAE's convolutions with channels last, the layout of cuDNN's half-precision
    kernels, which otherwise transpose in and out (*ours*; not timed on a GPU yet)."""

    def apply(self, network: Any, recompute: bool) -> None:
        """Set a network's attention, then compile its blocks; LoRA must be attached before.

        Args:
            network: A model of diffusers.
            recompute: Whether its blocks are recomputed in the backward pass.

        Raises:
            UserError: This network, or this machine, has no such attention.
        """
        # cuDNN's kernel corrupts memory where the recomputed forward pass meets it: "illegal memory
        # access" on an H200 with torch 2.11; NVIDIA's own NeMo RL turns it off for that reason
        # (NVIDIA-NeMo/RL#1717). A process-wide switch: recomputation runs in autograd's threads.
        if self.attention == "auto":
            if recompute:
                torch.backends.cuda.enable_cudnn_sdp(False)
        elif self.attention != "sdpa":
            set_attention(network, self.attention)
        if self.compile == "blocks":
            # One shape in training; another (a probe's) is compiled anew, never made dynamic.
            network.compile_repeated_blocks(fullgraph=True, dynamic=False)

    def apply_to_codec(self, codec: object) -> None:
        """Set the layout of a VAE; a codec without convolutions is left as it is."""
        if self.channels_last and isinstance(codec, VaeCodec):
            codec.vae.to(memory_format=torch.channels_last)


def set_attention(network: Any, name: str) -> None:
    """Choose a backend of diffusers for every attention of a network.

    Raises:
        UserError: It is unknown, its package is missing, or the network's attention takes none.
    """
    if not any(has_backends(module) for module in network.modules()):
        raise UserError(
            f"model.acceleration.attention: {type(network).__name__} takes torch's attention "
            "alone; leave it auto or sdpa."
        )
    try:
        network.set_attention_backend(name)
    except (ValueError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise UserError(f"model.acceleration.attention: {name}: {reason}.") from error


def has_backends(module: nn.Module) -> bool:
    return hasattr(getattr(module, "processor", None), "_attention_backend")
