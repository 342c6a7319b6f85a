"""What the loader hands to a module, and the way from decoded arrays to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.data.decode import DECODERS, disparity_from_depth_map
from dofsuite.data.sample_record import mirrored, read_record
from dofsuite.data.shards import Sample
from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS, center_crop, resize


class Batch(NamedTuple):
    """A batch of pictures with what is known of them (a NamedTuple, because Lightning moves those)."""

    image_srgb: Tensor
    """`[b, 3, h, w]` float32 display values in [0, 1]."""
    disparity: Tensor
    """`[b, 1, h, w]` float32 in [0, 1], 0 far, 1 near, min-max over the uncropped picture; 0 without depth."""
    has_depth: Tensor
    """`[b]` bool."""
    source: Tensor
    """`[b]` int64: number of the source in the data module's `sources`; -1 for held-out samples."""
    index: Tensor
    """`[b]` int64: position in the run (training) or number in the folder (validation): the seed of every draw."""
    key: list[str]
    """The samples' keys in their shards."""
    width_px: Tensor
    """`[b]` float32: long side, in px, of the uncropped picture at the scale of `image_srgb`."""
    valid: Tensor
    """`[b, 1, h, w]` bool: where the disparity was measured; all true unless the data say otherwise."""
    caption: list[str]
    """The samples' captions; "" where there is none."""
    f_number: Tensor
    """`[b]` float32: the photograph's f-number by its EXIF; NaN where there is none."""
    focal_length_mm: Tensor
    """`[b]` float32: its focal length in mm, for a sensor 36 mm wide; NaN where there is none."""


def check_has_depth(batch: Batch) -> None:
    """Refuse a batch from which a module cannot render depth of field; its disparity of 0 would keep all in focus.

    Raises:
        UserError: A picture has no depth map; names the first.
    """
    if not bool(batch.has_depth.all()):
        key = batch.key[batch.has_depth.tolist().index(False)]
        raise UserError(
            f"data.require_depth: the picture {key} has no depth map, from which its depth of field would be rendered; "
            "give it one or take it out, and set this to true to be told before the run begins."
        )


def decode_sample(sample: Sample, depth_kind: str | None) -> dict[str, Any]:
    """Decode one sample into `image` `[3, h, w]`, `disparity` and `valid` `[1, h, w]`, `has_depth` and `key`.

    What the sample says of itself is added: `caption`, `f_number` and `focal_length_mm`.

    Raises:
        UserError: A member cannot be decoded, or the sample has no picture; shard, key and member
            are named.
    """
    decoded = {
        extension: DECODERS[extension](data, f"{sample.shard}: {sample.key}.{extension}")
        for extension, data in sample.members.items()
        if extension in DECODERS
    }
    pictures = [decoded[extension] for extension in IMAGE_EXTENSIONS if extension in decoded]
    if len(pictures) != 1:
        raise UserError(
            f"{sample.shard}: {sample.key}: a sample needs one picture, this one has {len(pictures)}."
        )
    image = torch.from_numpy(pictures[0]).permute(2, 0, 1)
    size = (image.shape[1], image.shape[2])
    disparity, valid = torch.zeros(1, *size), torch.ones(1, *size, dtype=torch.bool)
    depth = [extension for extension in decoded if extension.startswith("depth.")]
    if depth:
        name = f"{sample.shard}: {sample.key}.{depth[0]}"
        disparity[0] = torch.from_numpy(
            disparity_from_depth_map(decoded[depth[0]], depth_kind or "disparity", size, name)
        )
    if "valid.png" in decoded:
        valid[0] = torch.from_numpy(decoded["valid.png"] > 0)
    arrays = {"image": image, "disparity": disparity, "valid": valid}
    said = read_record(sample.members, f"{sample.shard}: {sample.key}")._asdict()
    return {**arrays, **said, "has_depth": bool(depth), "key": sample.key}


def resize_and_crop(item: dict[str, Any], size_px: int | None) -> dict[str, Any]:
    """Bring the short side to `size_px` with antialiasing, and crop the centre square; None leaves the size.

    The picture is averaged in display values, the disparity in disparity (*ours*: as the image
    models' own training data were); a pixel is valid where all that was averaged into it is. Adds
    `width_px`.
    """
    height, width = item["image"].shape[1:]
    if size_px is None:
        return {**item, "width_px": float(max(height, width))}
    scale = size_px / min(height, width)
    new = (max(size_px, round(height * scale)), max(size_px, round(width * scale)))

    def fit(values: Tensor, mode: str) -> Tensor:
        return center_crop(resize(values, *new, mode), size_px, size_px)

    return {
        **item,
        "image": fit(item["image"], "bicubic"),
        "disparity": fit(item["disparity"], "bilinear"),  # bicubic would ring at the edges of depth
        "valid": fit((~item["valid"]).float(), "bilinear") == 0,
        "width_px": float(max(new)),
    }


def flip(item: dict[str, Any]) -> dict[str, Any]:
    """Mirror left and right, in the caption too."""
    turned = {name: item[name].flip(-1) for name in ("image", "disparity", "valid")}
    return {**item, **turned, "caption": mirrored(item["caption"])}


def collate(items: list[dict[str, Any]]) -> Batch:
    """Stack items into a batch.

    Raises:
        UserError: The pictures have different sizes.
    """
    sizes = {tuple(item["image"].shape[1:]) for item in items}
    if len(sizes) > 1:
        shown = ", ".join(f"{w}x{h}" for h, w in sorted(sizes))
        raise UserError(
            f"data.size_px: pictures of different sizes ({shown}): set size_px, or a batch size of 1."
        )
    return Batch(
        image_srgb=torch.stack([item["image"] for item in items]),
        disparity=torch.stack([item["disparity"] for item in items]),
        has_depth=torch.tensor([item["has_depth"] for item in items]),
        source=torch.tensor([item["source"] for item in items]),
        index=torch.tensor([item["index"] for item in items]),
        key=[item["key"] for item in items],
        width_px=torch.tensor([item["width_px"] for item in items]),
        valid=torch.stack([item["valid"] for item in items]),
        caption=[item["caption"] for item in items],
        f_number=torch.tensor([item["f_number"] for item in items], dtype=torch.float32),
        focal_length_mm=torch.tensor(
            [item["focal_length_mm"] for item in items], dtype=torch.float32
        ),
    )
