"""SDXL's two text encoders, as StableDiffusionXLPipeline.encode_prompt uses them, behind a cache on disk.

Training meets the same captions again and again, and the encoders weigh 3.3 GB: a prompt is encoded
once, kept in half precision beside the others, and the encoders are let go.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dofsuite.backbones.hub import cache_folder, from_pretrained, pretrained_tokenizer
from dofsuite.backbones.small.word_encoder import PromptEmbeds, zero_embeds
from dofsuite.files import write_bytes

CHUNK = 16
"""Prompts that the encoders see at once."""


class TextParts(NamedTuple):
    """Tokenisers and encoders, in the order in which SDXL concatenates them."""

    tokenizers: tuple[Any, Any]
    encoders: tuple[nn.Module, nn.Module]
    """CLIPTextModel (768) and CLIPTextModelWithProjection (1280, which gives the pooled vector)."""


@torch.no_grad()
def encode_with(parts: TextParts, prompts: list[str]) -> PromptEmbeds:
    """Encode prompts: penultimate hidden states side by side, pooled by the second encoder (arXiv 2307.01952, 2.1)."""
    hidden, pooled = [], None
    for tokenizer, encoder in zip(parts.tokenizers, parts.encoders, strict=True):
        ids = tokenizer(
            prompts,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        output = encoder(ids.to(next(encoder.parameters()).device), output_hidden_states=True)
        hidden.append(output.hidden_states[-2])
        pooled = output[0]
    return PromptEmbeds(torch.cat(hidden, dim=-1).float().cpu(), pooled.float().cpu())


def load_parts(path: str, revision: str | None, device: torch.device | str) -> TextParts:
    """Load both tokenisers and both encoders, frozen, in float32.

    Raises:
        UserError: The licence was not accepted, the hub cannot be reached, or the folder lacks a
            part.
    """
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizers = [
        pretrained_tokenizer(CLIPTokenizer, path, f"tokenizer{n}", revision) for n in ("", "_2")
    ]
    encoders = [
        from_pretrained(network, path, f"text_encoder{n}", revision, torch.float32)
        .eval()
        .requires_grad_(False)
        for network, n in ((CLIPTextModel, ""), (CLIPTextModelWithProjection, "_2"))
    ]
    return TextParts(
        (tokenizers[0], tokenizers[1]), (encoders[0].to(device), encoders[1].to(device))
    )


def fingerprint(path: str, revision: str | None) -> str:
    """Name the text encoders that a path holds; a folder's also by its weight files, as its content can change."""
    folder = Path(path)
    if not folder.exists():
        return f"{path}@{revision}"
    files = [
        file
        for part in ("text_encoder", "text_encoder_2")
        for file in sorted((folder / part).glob("*"))
    ]
    stats = [f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
    return f"{folder.resolve()} {' '.join(stats)}"


class SdxlPromptEncoder:
    """SDXL's prompt embeddings, [b, 77, 2048] and [b, 1280], kept on disk by model, revision and prompt.

    A prompt's numbers are rounded to half precision (*ours*; half the disk, 320 kB a prompt, and
    below the error of a bfloat16 UNet), whether they come from the disk or from the encoders, so a
    run does not depend on the cache.
    """

    num_tokens, token_dim, pooled_dim = 77, 2048, 1280

    def __init__(
        self, path: str, revision: str | None = None, cache: bool = True, keep: bool = False
    ) -> None:
        """Name the encoders.

        Args:
            path: Hub id, or a folder in diffusers layout.
            revision: Hub revision; null is the newest when a prompt is first seen.
            cache: Keep every prompt on disk; not for millions of captions (315 GB for one million).
            keep: Leave the encoders in memory once they are loaded.
        """
        self.path, self.revision, self.cache, self.keep = path, revision, cache, keep
        self._parts: TextParts | None = None
        self._latest: dict[str, tuple[Tensor, Tensor]] = {}
        self._folder = (
            cache_folder()
            / f"prompts-{hashlib.sha256(fingerprint(path, revision).encode()).hexdigest()[:16]}"
        )

    def encode(self, prompts: list[str]) -> PromptEmbeds:
        """Look prompts up, and encode those that were never seen.

        The latest prompts stay in memory: a turn of DMD2 asks up to four networks about the same
            ones.

        Raises:
            UserError: The encoders are needed and cannot be loaded.
        """
        wanted = dict.fromkeys(prompts)
        known = {
            p: found for p in wanted if (found := self._latest.get(p) or self._read(p)) is not None
        }
        missing = [prompt for prompt in wanted if prompt not in known]
        if missing:
            known |= self._compute(missing)
        self._latest = known
        rows = [known[prompt] for prompt in prompts]
        return PromptEmbeds(*(torch.stack(column).float() for column in zip(*rows, strict=True)))

    def uncond(self, batch: int) -> PromptEmbeds:
        """Return zeros; needs no encoder."""
        return zero_embeds(batch, self.num_tokens, self.token_dim, self.pooled_dim)

    def _file(self, prompt: str) -> Path:
        name = hashlib.sha256(prompt.encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.safetensors"

    def _read(self, prompt: str) -> tuple[Tensor, Tensor] | None:
        """Return a prompt's tokens and pooled vector from the disk, or None."""
        if not self.cache or not self._file(prompt).is_file():
            return None
        found = load_file(self._file(prompt))
        return found["tokens"], found["pooled"]

    def _compute(self, prompts: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Run the encoders, keep what they say, and let them go."""
        device = (
            torch.device("cuda", torch.cuda.current_device())
            if torch.cuda.is_available()
            else "cpu"
        )
        parts = self._parts or load_parts(self.path, self.revision, device)
        computed = {}
        for start in range(0, len(prompts), CHUNK):
            chunk = prompts[start : start + CHUNK]
            tokens, pooled = (x.half() for x in encode_with(parts, chunk))
            for prompt, *row in zip(chunk, tokens, pooled, strict=True):
                computed[prompt] = (row[0].clone(), row[1].clone())
                if self.cache:
                    write_bytes(
                        self._file(prompt),
                        save({"tokens": row[0].clone(), "pooled": row[1].clone()}),
                    )
        self._parts = parts if self.keep else None
        return computed
