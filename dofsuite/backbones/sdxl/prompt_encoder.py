"""Prompt embeddings for SDXL's UNet: the interface, and SDXL's two text encoders.

Convention: `tokens` [b, n, d] go to the cross-attention, `pooled` [b, p] to the added embedding.
Both are float32 on the CPU; the caller moves them. The unconditional embedding of classifier-free
guidance is zeros for both, as SDXL was trained (StableDiffusionXLPipeline's
`force_zeros_for_empty_prompt`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dofsuite.backbones.hub import from_pretrained, pretrained_tokenizer
from dofsuite.optics.scattering import without_autocast


class PromptEmbeds(NamedTuple):
    """An encoded prompt as SDXL's UNet takes it."""

    tokens: Tensor  # [b, n, d]
    pooled: Tensor  # [b, p]

    def to(self, device: torch.device | str) -> PromptEmbeds:
        return PromptEmbeds(self.tokens.to(device), self.pooled.to(device))


class Row(NamedTuple):
    """One prompt as it is stored: float16 on the CPU."""

    tokens: Tensor  # [n, d]
    pooled: Tensor  # [p]


@runtime_checkable
class PromptEncoder(Protocol):
    """Interface of a frozen prompt encoder."""

    num_tokens: int
    token_dim: int
    pooled_dim: int

    def encode(self, prompts: list[str]) -> PromptEmbeds:
        """Encode prompts; the same prompt gives the same numbers in every batch."""

    def uncond(self, batch: int) -> PromptEmbeds:
        """Return SDXL's unconditional embedding: zeros, not the embedding of an empty prompt."""
        return PromptEmbeds(
            torch.zeros(batch, self.num_tokens, self.token_dim, device="cpu"),
            torch.zeros(batch, self.pooled_dim, device="cpu"),
        )


# Two tokenizers, each with its encoder: CLIPTextModel (768), and CLIPTextModelWithProjection (1280,
# which gives the pooled vector).
TextParts = list[tuple[Any, nn.Module]]


@torch.no_grad()
def encode_with(parts: TextParts, prompts: list[str]) -> PromptEmbeds:
    """Encode prompts as StableDiffusionXLPipeline.encode_prompt does (arXiv 2307.01952, sec. 2.1).

    Tokens are both encoders' penultimate hidden states concatenated by channel,
    [b, 77, 768 + 1280]; the pooled vector is the second encoder's.
    """
    hidden = []
    for tokenizer, encoder in parts:
        ids = tokenizer(
            prompts,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        output = encoder(ids.to(next(encoder.parameters()).device), output_hidden_states=True)
        hidden.append(output.hidden_states[-2])
    return PromptEmbeds(torch.cat(hidden, dim=-1).float().cpu(), output[0].float().cpu())


def load_parts(path: str, revision: str | None, device: torch.device | str) -> TextParts:
    """Load both tokenizers and both encoders, frozen, in float32.

    Raises:
        UserError: The license was not accepted, the hub cannot be reached, or the folder lacks a
            part.
    """
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    parts = []
    for suffix, network in {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}.items():
        tokenizer = pretrained_tokenizer(CLIPTokenizer, path, f"tokenizer{suffix}", revision)
        encoder = from_pretrained(network, path, f"text_encoder{suffix}", revision, torch.float32)
        parts.append((tokenizer, encoder.eval().requires_grad_(False).to(device)))
    return parts


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32: no autocast, no TF32, whatever surrounds it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with without_autocast(torch.empty(0, device=device)):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class SdxlPromptEncoder(PromptEncoder):
    """SDXL's prompt embeddings, [b, 77, 2048] and [b, 1280].

    Both encoders (3.3 GB) are loaded when the first prompt is encoded, and stay: training meets new
    captions in every step. A prompt has the same numbers, bit for bit, in training and use: it is
    encoded alone (sums of another batch would round in another order), in float32 outside autocast
    as DMD2 does, and rounded to float16 (*ours*; below the error of a bfloat16 UNet, and half the
    disk of embeddings that `python -m dofsuite.data encode` stores).
    """

    num_tokens, token_dim = 77, 2048
    pooled_dim = 1280

    def __init__(self, path: str, revision: str | None = None) -> None:
        """Name the encoders.

        Args:
            path: Hub id, or a folder in diffusers layout.
            revision: Hub revision; null is the newest when the encoders are first loaded.
        """
        self.path, self.revision = path, revision
        self._parts: TextParts | None = None
        self._latest: dict[str, Row] = {}

    def encode(self, prompts: list[str]) -> PromptEmbeds:
        """Encode prompts.

        The latest prompts stay in memory: one training step encodes the same prompts for up to four
        networks.

        Raises:
            UserError: The encoders cannot be loaded.
        """
        self._latest = {
            prompt: self._latest.get(prompt) or self.encode_row(prompt)
            for prompt in dict.fromkeys(prompts)
        }
        # To float32 first: CPU's autocast refuses to stack float16.
        rows = [self._latest[prompt] for prompt in prompts]
        return PromptEmbeds(
            torch.stack([row.tokens.float() for row in rows]),
            torch.stack([row.pooled.float() for row in rows]),
        )

    def encode_row(self, prompt: str) -> Row:
        """Encode one prompt, as it is stored.

        Raises:
            UserError: The encoders cannot be loaded.
        """
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        if self._parts is None:
            self._parts = load_parts(self.path, self.revision, device)
        with full_precision(device):
            tokens, pooled = encode_with(self._parts, [prompt])
        return Row(tokens[0].half(), pooled[0].half())


def embeds_of(
    encoder: PromptEncoder, prompts: list[str], tokens: Tensor, pooled: Tensor
) -> PromptEmbeds:
    """Return what the data brings already encoded (see `Batch.prompt_tokens`), or encode it."""
    if tokens.numel():
        return PromptEmbeds(tokens.float(), pooled.float())
    return encoder.encode(prompts)
