"""A text-to-image pipeline by hub id or folder, with a LoRA or without: pictures from prompts."""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DiffusionPipeline

from dofsuite.backbones.hub import HubWeights, first_of_node, reason_of
from dofsuite.errors import UserError


class PretrainedTextToImage(HubWeights):
    """Any pipeline of diffusers that takes a prompt."""

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
        lora: str | None = None,
        lora_scale: float = 1.0,
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder in diffusers layout.
            revision: Hub revision; None is the newest.
            dtype: Of the weights.
            lora: Hub id, folder or file of a LoRA.
            lora_scale: Its strength.
        """
        super().__init__(path, revision, dtype)
        self.lora, self.lora_scale = lora, lora_scale

    def load(self, offload: bool = False) -> "ImageMaker":
        """Load it on the GPU, if there is one.

        Args:
            offload: Keep on the GPU only the part that computes.

        Raises:
            UserError: It or its LoRA cannot be loaded, or it takes no prompt.
        """
        # The pipeline, by its own class
        options = {"revision": self.revision, "torch_dtype": self.torch_dtype}
        is_local = Path(self.path).exists()
        try:
            with nullcontext() if is_local else first_of_node(f"pipeline {self.path}"):
                pipe = DiffusionPipeline.from_pretrained(self.path, use_safetensors=True, **options)
        except Exception as error:
            raise UserError(f"{self.path}: {reason_of(self.path, error)}") from error
        if "prompt" not in inspect.signature(pipe.__call__).parameters:
            raise UserError(f"{self.path}: {type(pipe).__name__} takes no prompt; name another.")
        # The LoRA
        if self.lora is not None:
            try:
                pipe.load_lora_weights(self.lora, adapter_name="lora")
                pipe.set_adapters(["lora"], [self.lora_scale])
            except Exception as error:
                raise UserError(f"{self.lora}: --lora: {reason_of(self.lora, error)}") from error
        # Its device
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if offload and device.type == "cuda":
            pipe.enable_model_cpu_offload()
        else:
            pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
        return ImageMaker(pipe)


class ImageMaker:
    """A loaded pipeline."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.parameters = inspect.signature(pipe.__call__).parameters

    @torch.no_grad()
    def __call__(
        self, prompts: Sequence[str], seeds: Sequence[int], **options: Any
    ) -> list[np.ndarray]:
        """Make an image of each prompt, with noise of its own seed, drawn on the CPU.

        Args:
            prompts: What is to be seen.
            seeds: One for each.
            options: height, width, num_inference_steps, guidance_scale; None is the pipeline's own.

        Returns:
            uint8 [h, w, 3] each.
        """
        # Only what this pipeline takes
        given = {name: value for name, value in options.items() if value is not None}
        if unknown := given.keys() - self.parameters.keys():
            name = sorted(unknown)[0]
            raise UserError(f"--model: {type(self.pipe).__name__} takes no {name}; leave it out.")
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        images = self.pipe(
            prompt=list(prompts), generator=generators, output_type="np", **given
        ).images
        return [np.rint(np.clip(each, 0, 1) * 255).astype(np.uint8) for each in images]
