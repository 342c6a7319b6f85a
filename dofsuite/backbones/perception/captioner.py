"""What a photograph shows, in words: a vision-language model of transformers writes a caption."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.image_processor import name_of_weights, whole
from dofsuite.errors import UserError

DEFAULT_INSTRUCTION = "Describe this photograph in one sentence."
"""What a model that is spoken to is asked (*ours*; the paper does not state its words)."""


class CaptionWriter(Frozen):
    """A frozen captioner with its processor, which runs on the CPU."""

    def __init__(
        self, network: nn.Module, processor: Any, name: str, prompt: str | None, longest_tokens: int
    ) -> None:
        """Freeze a network whose `generate` takes what the processor makes of a picture and a prompt.

        Args:
            network: Of transformers, for image and text to text.
            processor: Its own.
            name: What reports call it.
            prompt: See `Captioner`.
            longest_tokens: Of a caption.
        """
        super().__init__(network)
        self.processor, self.name, self.prompt, self.longest_tokens = (
            processor,
            name,
            prompt,
            longest_tokens,
        )

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[str]:
        """Write a caption for each of the display values [n, 3, h, w] in [0, 1]: one line, the likeliest words.

        Picture by picture, so that no caption depends on its company, and without chance (greedy).
        """
        return [self.caption(image) for image in images]

    def caption(self, image: Tensor) -> str:
        """Write the caption of [3, h, w]."""
        levels = image.detach().float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
        asked = self.processor(images=[levels.numpy()], return_tensors="pt", **self.words())
        asked = asked.to(next(self.network.parameters()).device, self.dtype)
        tokens = self.network.generate(
            **asked, max_new_tokens=self.longest_tokens, do_sample=False, num_beams=1
        )
        return " ".join(
            self.processor.decode(
                self.after_prompt(tokens, asked), skip_special_tokens=True
            ).split()
        )

    def words(self) -> dict[str, Any]:
        """Return the processor's text beside the picture: a conversation, a caption's beginning, or none."""
        if getattr(self.processor, "chat_template", None):
            spoken = [
                {"type": "image"},
                {"type": "text", "text": self.prompt or DEFAULT_INSTRUCTION},
            ]
            conversation = [{"role": "user", "content": spoken}]
            return {
                "text": [
                    self.processor.apply_chat_template(conversation, add_generation_prompt=True)
                ]
            }
        return {"text": [self.prompt]} if self.prompt else {}

    def after_prompt(self, tokens: Tensor, asked: Any) -> Tensor:
        """Return the new ids of [1, n] generated ones: a model that is spoken to repeats the conversation first."""
        prompt = asked.get("input_ids")
        if prompt is None or not getattr(self.processor, "chat_template", None):
            return tokens[0]
        repeats = tokens.shape[1] >= prompt.shape[1] and bool(
            (tokens[:, : prompt.shape[1]] == prompt).all()
        )
        return tokens[0, prompt.shape[1] :] if repeats else tokens[0]


class Captioner:
    """A light description of a captioner: BLIP-2, BLIP, InternVL, or another image-text-to-text model of transformers.

    Paper: BLIP-2 for its training sets and InternVL3 for the photographs of EBB!, sizes not stated.
    Here: BLIP-2 with OPT 2.7B for both, because the processor of InternVL needs torchvision; where
    that is installed, `OpenGVLab/InternVL3-1B-hf` and its larger sisters can be named.
    """

    def __init__(
        self,
        path: str = "Salesforce/blip2-opt-2.7b",
        revision: str | None = None,
        prompt: str | None = None,
        longest_tokens: int = 60,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder that transformers loads.
            revision: Hub revision; null is the newest.
            prompt: What a model that is spoken to is asked (null: `DEFAULT_INSTRUCTION`), or a
                caption's beginning for one that only continues it (null: none).
            longest_tokens: Of a caption (SDXL's text encoders read 77).
            dtype: Of the frozen weights.
        """
        self.path, self.revision, self.prompt = path, revision, prompt
        self.longest_tokens, self.dtype = longest_tokens, dtype

    @property
    def name(self) -> str:
        """What reports call it."""
        return name_of_weights(self.path, self.revision)

    def load(self) -> CaptionWriter:
        """Load network and processor on the CPU.

        Raises:
            UserError: They cannot be downloaded, a package that they need is missing, or they are
                no captioner.
        """
        processor = load_processor(self.path, self.revision)
        if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
            raise UserError(
                f"{self.path}: it has no processor for pictures and words; name a captioner."
            )
        network = whole(
            AutoModelForImageTextToText, self.path, self.revision, getattr(torch, self.dtype)
        )
        return CaptionWriter(network, processor, self.name, self.prompt, self.longest_tokens)


def load_processor(path: str, revision: str | None) -> Any:
    """Load what prepares pictures and words.

    Raises:
        UserError: It cannot be downloaded, or needs torchvision where that is not installed.
    """
    try:
        return from_pretrained(AutoProcessor, path, "", revision, None)
    except UserError as mistake:
        if "torchvision" in str(mistake.__cause__):
            raise UserError(
                f"{path}: its processor needs torchvision, which is not installed; pip install torchvision, or name a "
                "captioner that needs none, such as Salesforce/blip2-opt-2.7b."
            ) from mistake
        raise
