"""Prompt embeddings for SDXL's UNet: the interface, and SDXL's text encoders with a disk cache.

Convention: `tokens` [b, n, d] go to the cross-attention, `pooled` [b, p] to the added embedding.
Both are float32 on the CPU; the caller moves them. The unconditional embedding of classifier-free
guidance is zeros for both, as SDXL was trained (StableDiffusionXLPipeline's
`force_zeros_for_empty_prompt`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dofsuite.backbones.hub import cache_folder, from_pretrained, pretrained_tokenizer
from dofsuite.files import write_bytes

# Prompts per call of the encoders.
CHUNK = 16


class PromptEmbeds(NamedTuple):
    """An encoded prompt as SDXL's UNet takes it."""

    tokens: Tensor  # [b, n, d]
    pooled: Tensor  # [b, p]

    def to(self, device: torch.device | str) -> PromptEmbeds:
        return PromptEmbeds(self.tokens.to(device), self.pooled.to(device))


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


def fingerprint(path: str, revision: str | None) -> str:
    """Identify a path's text encoders; a folder's also by its files, which can change."""
    folder = Path(path)
    if not folder.exists():
        return f"{path}@{revision}"
    parts = (folder / "text_encoder", folder / "text_encoder_2")
    files = [file for part in parts for file in sorted(part.glob("*"))]
    stats = [f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
    return f"{folder.resolve()} {' '.join(stats)}"


class SdxlPromptEncoder(PromptEncoder):
    """SDXL's prompt embeddings, [b, 77, 2048] and [b, 1280], cached on disk.

    Training uses the same captions again and again, and the encoders weigh 3.3 GB: each prompt of a
    model and revision is encoded once, and the encoders are freed. Embeddings are rounded to
    float16 (*ours*; half the disk, 320 kB a prompt, and below the error of a bfloat16 UNet),
    whether they come from the disk or from the encoders, so a run does not depend on the cache.
    """

    num_tokens, token_dim = 77, 2048
    pooled_dim = 1280

    def __init__(
        self, path: str, revision: str | None = None, cache: bool = True, keep: bool = False
    ) -> None:
        """Name the encoders.

        Args:
            path: Hub id, or a folder in diffusers layout.
            revision: Hub revision; null is the newest when the encoders are first loaded.
            cache: Keep every prompt on disk; not for millions of captions (315 GB for one million).
            keep: Leave the encoders in memory once they are loaded.
        """
        self.path, self.revision = path, revision
        self.cache, self.keep = cache, keep
        self._parts: TextParts | None = None
        self._latest: dict[str, tuple[Tensor, Tensor]] = {}
        source = hashlib.sha256(fingerprint(path, revision).encode()).hexdigest()[:16]
        self._folder = cache_folder() / f"prompts-{source}"

    def encode(self, prompts: list[str]) -> PromptEmbeds:
        """Look prompts up in the cache, and encode those that are new.

        The latest prompts stay in memory: one training step encodes the same prompts for up to four
        networks.

        Raises:
            UserError: The encoders are needed and cannot be loaded.
        """
        # From memory, else from disk.
        distinct = dict.fromkeys(prompts)
        found = {prompt: self._latest.get(prompt) or self._read(prompt) for prompt in distinct}
        known = {prompt: row for prompt, row in found.items() if row is not None}
        # The rest by the encoders.
        missing = [prompt for prompt in distinct if prompt not in known]
        if missing:
            known |= self._compute(missing)
        self._latest = known
        tokens = torch.stack([known[prompt][0] for prompt in prompts])
        pooled = torch.stack([known[prompt][1] for prompt in prompts])
        return PromptEmbeds(tokens.float(), pooled.float())

    def _file(self, prompt: str) -> Path:
        name = hashlib.sha256(prompt.encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.safetensors"

    def _read(self, prompt: str) -> tuple[Tensor, Tensor] | None:
        if not self.cache or not self._file(prompt).is_file():
            return None
        found = load_file(self._file(prompt))
        return found["tokens"], found["pooled"]

    def _compute(self, prompts: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else "cpu"
        parts = self._parts or load_parts(self.path, self.revision, device)
        # Encode in chunks; one file per prompt, cloned so that it does not hold its whole chunk.
        computed = {}
        for start in range(0, len(prompts), CHUNK):
            chunk = prompts[start : start + CHUNK]
            for prompt, tokens, pooled in zip(chunk, *encode_with(parts, chunk), strict=True):
                row = {"tokens": tokens.half().clone(), "pooled": pooled.half().clone()}
                computed[prompt] = (row["tokens"], row["pooled"])
                if self.cache:
                    write_bytes(self._file(prompt), save(row))
        # Free the encoders unless they are kept.
        self._parts = parts if self.keep else None
        return computed
