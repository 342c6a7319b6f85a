"""From prompts to what SDXL's UNet is conditioned on: the interface, and a fixed encoder without weights.

Convention: `tokens` [b, n, d] go to the cross-attention, `pooled` [b, p] to the added embedding.
Both are float32 on the CPU; the caller moves them. The empty conditioning of classifier-free
guidance is zeros for both, as SDXL was trained (StableDiffusionXLPipeline's
`force_zeros_for_empty_prompt`).
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class PromptEmbeds(NamedTuple):
    """What a UNet of SDXL's kind needs of a prompt."""

    tokens: Tensor
    """[b, n, d]"""
    pooled: Tensor
    """[b, p]"""


class PromptEncoder(Protocol):
    """What the works ask of a prompt encoder; `SdxlPromptEncoder` and `WordEncoder` answer it. It is frozen."""

    num_tokens: int
    token_dim: int
    pooled_dim: int

    def encode(self, prompts: list[str]) -> PromptEmbeds:
        """Encode prompts; the same prompt gives the same numbers in every batch."""

    def uncond(self, batch: int) -> PromptEmbeds:
        """Return the empty conditioning of classifier-free guidance."""


def zero_embeds(batch: int, num_tokens: int, token_dim: int, pooled_dim: int) -> PromptEmbeds:
    """Return SDXL's empty conditioning: zeros, not the embedding of an empty prompt."""
    return PromptEmbeds(
        torch.zeros(batch, num_tokens, token_dim, device="cpu"),
        torch.zeros(batch, pooled_dim, device="cpu"),
    )


@functools.lru_cache(maxsize=4096)
def word_vector(word: str, dim: int) -> Tensor:
    """Return the fixed vector [dim] of a word: SHAKE-256 of its UTF-8, as uniform numbers of unit variance.

    Integers of a hash, scaled: bit for bit the same on every machine, Python and torch, which no
    random generator promises.
    """
    digest = hashlib.shake_256(word.encode()).digest(4 * dim)
    levels = torch.tensor(
        [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 4 * dim, 4)], device="cpu"
    )
    return ((levels.double() + 0.5) / 2**31 - 1).mul(3**0.5).float()


def words_of(prompt: str) -> list[str]:
    """Split a prompt into lower-case words; whatever is no letter, digit, point inside a number or stroke divides."""
    kept = "".join(
        letter if letter.isalnum() or letter in "./-" else " " for letter in prompt.lower()
    )
    return [word for part in kept.split() if (word := part.strip("./-"))]


class WordEncoder:
    """A stand-in for SDXL's text encoders that needs no download: every word has a fixed random vector (*ours*).

    A token is its word's vector, plus half of the vector of the word before it ("red ball" and
    "blue ball" differ at the ball), plus half of its place's; what is left of `num_tokens` is
    zeros, and words beyond are dropped. The pooled vector is the sum of the words' own vectors at
    unit mean square: it knows the words and not their order. The empty prompt is the empty
    conditioning. The encoder understands nothing: a network trained with it knows the words of its
    captions, and no others.
    """

    def __init__(self, num_tokens: int = 16, token_dim: int = 64, pooled_dim: int = 64) -> None:
        """Choose the shapes, which are the UNet's."""
        self.num_tokens, self.token_dim, self.pooled_dim = num_tokens, token_dim, pooled_dim

    def encode(self, prompts: list[str]) -> PromptEmbeds:
        """Encode prompts to tokens [b, num_tokens, token_dim] and pooled vectors [b, pooled_dim]."""
        embeds = self.uncond(len(prompts))
        for row, prompt in enumerate(prompts):
            words = words_of(prompt)[: self.num_tokens]
            if words:
                embeds.tokens[row, : len(words)] = self._tokens(words)
                total = torch.stack(
                    [word_vector(f"pooled {word}", self.pooled_dim) for word in words]
                ).sum(0)
                embeds.pooled[row] = total / total.square().mean().sqrt()
        return embeds

    def uncond(self, batch: int) -> PromptEmbeds:
        """Return zeros of the same shapes."""
        return zero_embeds(batch, self.num_tokens, self.token_dim, self.pooled_dim)

    def _tokens(self, words: list[str]) -> Tensor:
        """Return the words' tokens [words, token_dim], of about unit variance."""
        own = torch.stack([word_vector(f"word {word}", self.token_dim) for word in words])
        before = torch.cat([torch.zeros(1, self.token_dim, device="cpu"), own[:-1]])
        place = torch.stack([word_vector(f"place {i}", self.token_dim) for i in range(len(words))])
        return (own + 0.5 * before + 0.5 * place) / 1.5**0.5
