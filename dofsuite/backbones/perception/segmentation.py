"""Semantic segmentation by transformers, with the `top_k` classes of every pixel.

For `dofsuite.metrics.ContentConsistency`. Paper: the three class proposals of Semantic Segment
Anything (its engine: a mask generator, two segmenters, a captioner and CLIP; 33 s an image). Here:
the `top_k` classes of one segmenter for every pixel, because that is deterministic and some hundred
times cheaper; so every pixel has classes.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import (
    AutoConfig,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from dofsuite.backbones.hub import (
    HubWeights,
    from_pretrained,
    load_complete,
    pretrained_tokenizer,
)
from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.image_processor import ImageProcessor, load_image_processor
from dofsuite.errors import UserError

# Model types whose own post-processing resizes the masks before the classes are summed.
MASKS_FIRST_PX = {"mask2former": (384, 384)}
# Model types whose output is masks and a class for each.
MASK_MODELS = ("mask2former", "maskformer", "oneformer")
# OneFormer's task input.
TASK = "the task is semantic"


class Segmentation(Frozen):
    """A frozen segmenter with its preprocessing: a `dofsuite.metrics.Segmenter`."""

    task_tokens: Tensor | None

    def __init__(
        self,
        network: Any,
        process: ImageProcessor,
        name: str,
        top_k: int = 3,
        task_tokens: Tensor | None = None,
    ) -> None:
        """Freeze a network of transformers.

        Args:
            network: Its output has `logits` [n, classes, h', w'], or `class_queries_logits` and
                `masks_queries_logits`.
            process: Its preprocessing.
            name: Name in reports.
            top_k: Number of classes returned for each pixel.
            task_tokens: [1, n], OneFormer's task input; None for others.
        """
        super().__init__(network)
        self.process, self.name = process, name
        self.top_k, self.num_classes = top_k, int(network.config.num_labels)
        self.register_buffer("task_tokens", task_tokens, persistent=False)
        if not 1 <= top_k <= self.num_classes:
            raise UserError(
                f"{name}: top_k: {top_k} of its {self.num_classes} classes; choose at least 1, at "
                "most all."
            )

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Segment display values [n, 3, h, w] in [0, 1]: ids [n, k, h, w], likeliest class first.

        One image at a time: the scores of 150 classes at 1024 px are 0.6 GB, and an image's classes
        do not depend on the batch.
        """
        return torch.cat(
            [self.scores(image[None]).topk(self.top_k, dim=1).indices for image in images]
        )

    def scores(self, image: Tensor) -> Tensor:
        """Return every class's score [n, classes, h, w] at the images' own size; float32.

        Larger is likelier; the argmax is transformers' `post_process_semantic_segmentation`.
        """
        inputs = {"pixel_values": self.process(image).to(self.dtype)}
        if self.task_tokens is not None:
            inputs["task_inputs"] = self.task_tokens.expand(len(image), -1)
        output = self.network(**inputs)
        # Per-pixel logits, or MaskFormer's masks and their classes.
        if "logits" in output:
            scores = output.logits.float()
        else:
            size = MASKS_FIRST_PX.get(self.network.config.model_type)
            scores = summed_over_masks(
                output.class_queries_logits, output.masks_queries_logits, size
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


class SemanticSegmenter(HubWeights):
    """A light description of a semantic segmenter.

    Mask2Former, OneFormer, MaskFormer, SegFormer, BEiT, DPT, UperNet and others. The default knows
    ADE20K's 150 classes, as one of the two segmenters in the paper's does (*ours*).
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
            top_k: Number of classes returned for each pixel (*stated*: 3).
            dtype: Of the frozen weights; scores are float32 in any case.
        """
        super().__init__(path, revision, dtype)
        self.top_k = top_k

    def load(self) -> Segmentation:
        """Load the network on the CPU.

        Raises:
            UserError: It cannot be downloaded, is no semantic segmenter, or lacks weights.
        """
        model_type = from_pretrained(AutoConfig, self.path, "", self.revision, None).model_type
        network = load_complete(
            self._auto_class(model_type), self.path, self.revision, self.torch_dtype
        )
        # OneFormer alone takes its task as tokens; its class file is for training.
        task_tokens, options = None, {}
        if model_type == "oneformer":
            task_tokens, options = self._task_tokens(network), {"class_info_file": None}
        process = load_image_processor(self.path, self.revision, **options)
        return Segmentation(network, process, self.name, self.top_k, task_tokens)

    def _auto_class(self, model_type: str) -> type[Any]:
        if model_type in MASK_MODELS:
            return AutoModelForUniversalSegmentation
        if model_type in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES:
            return AutoModelForSemanticSegmentation
        raise UserError(
            f"{self.path}: a model of the type {model_type!r}, which is no semantic segmenter; "
            "name a Mask2Former, OneFormer, MaskFormer or SegFormer."
        )

    # Return OneFormer's task as its processor encodes it: token ids [1, n], padded with 0.
    def _task_tokens(self, network: Any) -> Tensor:
        tokenizer = pretrained_tokenizer(AutoTokenizer, self.path, "", self.revision)
        length = network.config.task_seq_len
        tokens = tokenizer(
            [TASK], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return tokens.attention_mask * tokens.input_ids
