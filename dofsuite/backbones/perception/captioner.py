"""Image captions by a vision-language model of transformers."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from dofsuite.backbones.hub import HubWeights, from_pretrained, load_complete
from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.errors import UserError
from dofsuite.images import to_uint8

# Instruction of a chat model (*ours*; the paper does not state its words).
DEFAULT_INSTRUCTION = "Describe this photograph in one sentence."


class CaptionWriter(Frozen):
    """A frozen captioner with its processor, which runs on the CPU."""

    def __init__(
        self, network: nn.Module, processor: Any, name: str, prompt: str | None, longest_tokens: int
    ) -> None:
        """Freeze a network whose `generate` takes the processor's output for an image and a prompt.

        Args:
            network: An image-text-to-text model of transformers.
            processor: Its own.
            name: Name in reports.
            prompt: See `Captioner`.
            longest_tokens: Of a caption.
        """
        super().__init__(network)
        self.processor, self.name = processor, name
        self.prompt, self.longest_tokens = prompt, longest_tokens

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[str]:
        """Write a one-line caption for each of the display values [n, 3, h, w] in [0, 1].

        One image at a time, so that a caption does not depend on the batch, with greedy decoding.
        """
        return [self.caption(image) for image in images]

    def caption(self, image: Tensor) -> str:
        inputs = self.processor(
            images=[to_uint8(image).cpu().numpy()], return_tensors="pt", **self.text_inputs()
        )
        inputs = inputs.to(next(self.network.parameters()).device, self.dtype)
        tokens = self.network.generate(
            **inputs, max_new_tokens=self.longest_tokens, do_sample=False, num_beams=1
        )
        new_tokens = self.without_prompt(tokens, inputs)
        return " ".join(self.processor.decode(new_tokens, skip_special_tokens=True).split())

    @property
    def is_chat_model(self) -> bool:
        return bool(getattr(self.processor, "chat_template", None))

    def text_inputs(self) -> dict[str, Any]:
        if not self.is_chat_model:
            return {"text": [self.prompt]} if self.prompt else {}
        instruction = {"type": "text", "text": self.prompt or DEFAULT_INSTRUCTION}
        conversation = [{"role": "user", "content": [{"type": "image"}, instruction]}]
        text = self.processor.apply_chat_template(conversation, add_generation_prompt=True)
        return {"text": [text]}

    def without_prompt(self, tokens: Tensor, inputs: Any) -> Tensor:
        """Return the new ids [m] of [1, n] generated ones; chat models may repeat the prompt."""
        prompt = inputs.get("input_ids")
        if prompt is None or not self.is_chat_model:
            return tokens[0]
        length = prompt.shape[1]
        repeats = tokens.shape[1] >= length and bool((tokens[:, :length] == prompt).all())
        return tokens[0, length:] if repeats else tokens[0]


class Captioner(HubWeights):
    """A light description of a captioner.

    BLIP-2, BLIP, InternVL, or another image-text-to-text model of transformers. Paper: BLIP-2 for
    its training sets and InternVL3 for the photographs of EBB!, sizes not stated. Here: BLIP-2 with
    OPT 2.7B for both, because the processor of InternVL needs torchvision; where that is installed,
    `OpenGVLab/InternVL3-1B-hf` and its larger versions can be named.
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
            prompt: Instruction of a chat model (null: `DEFAULT_INSTRUCTION`), or a caption's
                beginning for a model that only continues it (null: none).
            longest_tokens: Of a caption (SDXL's text encoders read 77).
            dtype: Of the frozen weights.
        """
        super().__init__(path, revision, dtype)
        self.prompt, self.longest_tokens = prompt, longest_tokens

    def load(self) -> CaptionWriter:
        """Load network and processor on the CPU.

        Raises:
            UserError: They cannot be downloaded, a package that they need is missing, or they are
                no captioner.
        """
        try:
            processor = from_pretrained(AutoProcessor, self.path, "", self.revision, None)
        except UserError as mistake:
            if "torchvision" in str(mistake.__cause__):
                raise UserError(
                    f"{self.path}: its processor needs torchvision, which is not installed; pip "
                    "install torchvision, or name a captioner that needs none, such as "
                    "Salesforce/blip2-opt-2.7b."
                ) from mistake
            raise
        if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
            raise UserError(
                f"{self.path}: it has no processor for images and text; name a captioner."
            )
        # The network itself.
        network = load_complete(
            AutoModelForImageTextToText, self.path, self.revision, self.torch_dtype
        )
        return CaptionWriter(network, processor, self.name, self.prompt, self.longest_tokens)
