"""What every pixel shows: semantic segmentation by transformers, with all class scores kept before the argmax.

For `dofsuite.metrics.ContentConsistency`. Paper: the three class proposals of Semantic Segment
Anything (its engine: a mask generator, two segmenters, a captioner and CLIP; 33 s a picture). Here:
the `top_k` classes of one segmenter for every pixel, because that is deterministic and some hundred
times cheaper; so every pixel has classes.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import (
    AutoConfig,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from dofsuite.backbones.hub import from_pretrained, pretrained_tokenizer
from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.image_processor import (
    Preparation,
    load_preparation,
    name_of_weights,
    whole,
)
from dofsuite.errors import UserError

MASKS_FIRST_PX = {"mask2former": (384, 384)}
"""Kinds whose own post-processing resizes the masks, before the classes are summed."""
MASK_KINDS = ("mask2former", "maskformer", "oneformer")
"""Kinds that answer with masks and a class for each."""
TASK = "the task is semantic"
"""What OneFormer is told."""


class Segmentation(Frozen):
    """A frozen segmenter with its preparation: `dofsuite.metrics.Segmenter`."""

    def __init__(
        self,
        network: nn.Module,
        preparation: Preparation,
        name: str,
        top_k: int = 3,
        task_tokens: Tensor | None = None,
    ) -> None:
        """Freeze a network of transformers.

        Args:
            network: It answers with `logits` [n, classes, h', w'], or with `class_queries_logits`
                and `masks_queries_logits`.
            preparation: What it wants to see.
            name: What reports call it.
            top_k: How many classes of a pixel are given.
            task_tokens: [1, n], what OneFormer is told; None for others.
        """
        super().__init__(network)
        self.preparation, self.name, self.top_k = preparation, name, top_k
        self.num_classes: int = network.config.num_labels
        self.register_buffer("task_tokens", task_tokens, persistent=False)
        if not 1 <= top_k <= self.num_classes:
            raise UserError(
                f"{name}: top_k: {top_k} of its {self.num_classes} classes; choose at least 1, at most all."
            )

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Segment display values [n, 3, h, w] in [0, 1]: ids [n, k, h, w] of the likeliest classes, likeliest first.

        Picture by picture: the scores of 150 classes at 1024 px are 0.6 GB, and a picture's classes
        do not depend on its company.
        """
        return torch.cat(
            [self.scores(image[None]).topk(self.top_k, dim=1).indices for image in images]
        )

    def scores(self, image: Tensor) -> Tensor:
        """Return every class's score [n, classes, h, w] at the pictures' own size; float32.

        The larger, the likelier; at each pixel the largest is what transformers'
        `post_process_semantic_segmentation` answers.
        """
        told = (
            {}
            if self.task_tokens is None
            else {"task_inputs": self.task_tokens.expand(len(image), -1)}
        )
        answer = self.network(pixel_values=self.preparation(image).to(self.dtype), **told)
        if "logits" in answer:
            scores = answer.logits.float()
        else:
            size = MASKS_FIRST_PX.get(self.network.config.model_type)
            scores = summed_over_masks(
                answer.class_queries_logits, answer.masks_queries_logits, size
            )
        return interpolate(scores, image.shape[-2:], mode="bilinear", align_corners=False)


def summed_over_masks(
    class_logits: Tensor, mask_logits: Tensor, masks_px: tuple[int, int] | None = None
) -> Tensor:
    """Score of each class at each pixel: sum over queries q of P(class | q) P(pixel in mask q).

    MaskFormer's semantic inference (arXiv 2107.06278, sec. 3.4), "no object" left out.

    Args:
        class_logits: [n, q, classes + 1], the last of them "no object".
        mask_logits: [n, q, h, w].
        masks_px: Size to which the masks are resized first; None leaves theirs.

    Returns:
        Float32 [n, classes, h, w], 0 and larger.
    """
    masks = mask_logits.float()
    if masks_px is not None:
        masks = interpolate(masks, masks_px, mode="bilinear", align_corners=False)
    return torch.einsum(
        "nqc,nqhw->nchw", class_logits.float().softmax(dim=-1)[..., :-1], masks.sigmoid()
    )


class SemanticSegmenter:
    """A light description of a semantic segmenter: Mask2Former, OneFormer, MaskFormer, SegFormer, BEiT, DPT, UperNet...

    The default knows ADE20K's 150 classes, as one of the two segmenters in the paper's does
    (*ours*).
    """

    def __init__(
        self,
        path: str = "facebook/mask2former-swin-large-ade-semantic",
        revision: str | None = None,
        top_k: int = 3,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder that transformers loads.
            revision: Hub revision; null is the newest.
            top_k: How many classes of a pixel are given (*stated*: 3).
            dtype: Of the frozen weights; scores are float32 in any case.
        """
        self.path, self.revision, self.top_k, self.dtype = path, revision, top_k, dtype

    @property
    def name(self) -> str:
        """What reports call it."""
        return name_of_weights(self.path, self.revision)

    def load(self) -> Segmentation:
        """Load the network on the CPU.

        Raises:
            UserError: It cannot be downloaded, is no semantic segmenter, or not whole.
        """
        kind = from_pretrained(AutoConfig, self.path, "", self.revision, None).model_type
        network = whole(self._class_of(kind), self.path, self.revision, getattr(torch, self.dtype))
        told, more = (
            (self._task_tokens(network), {"class_info_file": None})
            if kind == "oneformer"
            else (None, {})
        )
        preparation = load_preparation(self.path, self.revision, **more)
        return Segmentation(network, preparation, self.name, self.top_k, told)

    def _class_of(self, kind: str) -> type[Any]:
        if kind in MASK_KINDS:
            return AutoModelForUniversalSegmentation
        if kind in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES:
            return AutoModelForSemanticSegmentation
        known = "Mask2Former, OneFormer, MaskFormer or SegFormer"
        raise UserError(
            f"{self.path}: a model of the kind {kind!r}, which is no semantic segmenter; name a {known}."
        )

    def _task_tokens(self, network: nn.Module) -> Tensor:
        """Return OneFormer's task as its own processor writes it: token ids [1, n], 0 where there are none."""
        tokenizer = pretrained_tokenizer(AutoTokenizer, self.path, "", self.revision)
        length = network.config.task_seq_len
        tokens = tokenizer(
            [TASK], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return tokens.attention_mask * tokens.input_ids
