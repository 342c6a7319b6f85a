"""A fixed prompt encoder without weights, for small SDXL-shaped networks."""

import functools
import hashlib

import torch
from torch import Tensor

from dofsuite.backbones.sdxl.prompt_encoder import PromptEmbeds, PromptEncoder


@functools.lru_cache(maxsize=4096)
def word_vector(word: str, dim: int) -> Tensor:
    """Return the fixed vector [dim] of a word: uniform numbers of unit variance from SHAKE-256.

    Integers of a hash, scaled: bit for bit the same on every machine, Python and torch, which no
    random generator promises.
    """
    digest = hashlib.shake_256(word.encode()).digest(4 * dim)
    levels = torch.tensor(
        [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 4 * dim, 4)], device="cpu"
    )
    return ((levels.double() + 0.5) / 2**31 - 1).mul(3**0.5).float()


def words_of(prompt: str) -> list[str]:
    """Split a prompt into lower-case words of letters, digits and inner `.`, `/`, `-`."""
    kept = "".join(
        letter if letter.isalnum() or letter in "./-" else " " for letter in prompt.lower()
    )
    return [word for part in kept.split() if (word := part.strip("./-"))]


class WordEncoder(PromptEncoder):
    """Replaces SDXL's text encoders: every word has a fixed random vector (*ours*).

    A token is its word's vector, plus half of the previous word's ("red ball" and "blue ball"
    differ at the ball), plus half of its position's. Prompts are padded with zeros to `num_tokens`,
    longer ones truncated. The pooled vector is the sum of the words' vectors at unit mean square:
    it depends on the words and not on their order. The empty prompt is the unconditional embedding.
    There are no semantics: a network trained with it knows the words of its captions only.
    """

    def __init__(self, num_tokens: int = 16, token_dim: int = 64, pooled_dim: int = 64) -> None:
        self.num_tokens, self.token_dim = num_tokens, token_dim
        self.pooled_dim = pooled_dim

    def encode(self, prompts: list[str]) -> PromptEmbeds:
        """Encode prompts: tokens [b, num_tokens, token_dim] and pooled [b, pooled_dim]."""
        embeds = self.uncond(len(prompts))
        for row, prompt in enumerate(prompts):
            words = words_of(prompt)[: self.num_tokens]
            if words:
                embeds.tokens[row, : len(words)] = self._tokens(words)
                vectors = [word_vector(f"pooled {word}", self.pooled_dim) for word in words]
                total = torch.stack(vectors).sum(0)
                embeds.pooled[row] = total / total.square().mean().sqrt()
        return embeds

    def _tokens(self, words: list[str]) -> Tensor:
        own = torch.stack([word_vector(f"word {word}", self.token_dim) for word in words])
        before = torch.cat([torch.zeros(1, self.token_dim, device="cpu"), own[:-1]])
        place = torch.stack([word_vector(f"place {i}", self.token_dim) for i in range(len(words))])
        return (own + 0.5 * before + 0.5 * place) / 1.5**0.5
