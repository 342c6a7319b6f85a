"""`Batch`, what the loader gives to a module, and the way to it: decode, crop, collate."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.data.decode import DECODERS, check_map_size, disparity_from_depth_map
from dofsuite.data.sample_record import mirror_caption, read_record
from dofsuite.data.shards import Sample
from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS, center_crop, minmax_normalize, resize

# Tokens and pooled vector of a caption that was not encoded beforehand.
NOT_ENCODED = (torch.zeros(0, 0, dtype=torch.float16), torch.zeros(0, dtype=torch.float16))


class Batch(NamedTuple):
    """A batch of images with their metadata (a NamedTuple, because Lightning moves those).

    Attributes:
        image_srgb: `[b, 3, h, w]` float32 display values in [0, 1].
        disparity: `[b, 1, h, w]` float32 in [0, 1], 0 far, 1 near, min-max over this image, as it
            was cropped. 0 without depth.
        has_depth: `[b]` bool.
        source: `[b]` int64: index into the data module's `sources`; -1 for held-out samples.
        index: `[b]` int64: global sample index, with which every random draw is seeded. In training
            the position in the run, in validation the number in the folder.
        key: Keys of the samples in their shards.
        width_px: `[b]` float32: long side, in px, of the uncropped image at the scale of
            `image_srgb`.
        valid: `[b, 1, h, w]` bool: where the disparity was measured; true everywhere without a
            mask.
        caption: Captions; "" where there is none.
        f_number: `[b]` float32: f-number of the EXIF; NaN where there is none.
        focal_length_mm: `[b]` float32: focal length of the real lens; NaN where there is none.
        sensor_width_mm: `[b]` float32: width of the real sensor along the long side of the
            uncropped image, which `width_px` pixels span; NaN where none is said: full frame.
        prompt_tokens: `[b, n, d]` float16: embeddings of the captions that lay beside the shards;
            `[b, 0, 0]` where there are none.
        prompt_pooled: `[b, p]` float16: their pooled vectors; `[b, 0]` likewise.
        latent: `[b, c, h, w]`: latents of the images that lay beside the shards, in the VAE's
            dtype; `[b, 0, 0, 0]` where there are none.
        focus_target: `[b]` float32: depths to focus on, on the depth model's scale, that lay beside
            the shards; `[b, 0]` where there are none.
        given_disparity: `[b, 1, h, w]`: disparity as a depth model might give it, where `disparity`
            is exact; empty where there is none.
    """

    image_srgb: Tensor
    disparity: Tensor
    has_depth: Tensor
    source: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    key: list[str]
    width_px: Tensor
    valid: Tensor
    caption: list[str]
    f_number: Tensor
    focal_length_mm: Tensor
    sensor_width_mm: Tensor
    prompt_tokens: Tensor
    prompt_pooled: Tensor
    latent: Tensor = torch.zeros(0)
    focus_target: Tensor = torch.zeros(0)
    given_disparity: Tensor = torch.zeros(0)


def check_has_depth(batch: Batch) -> None:
    """Check that every image of a batch has depth; without it nothing would be blurred.

    Raises:
        UserError: An image has no depth map; names the first.
    """
    if not bool(batch.has_depth.all()):
        key = batch.key[batch.has_depth.tolist().index(False)]
        raise UserError(
            f"data.require_depth: the image {key} has no depth map, from which its depth of field "
            "would be rendered; add one or remove the image, and set this key to true so that it "
            "is checked before the run begins."
        )


def decode_sample(sample: Sample, depth_kind: str | None) -> dict[str, Any]:
    """Decode a sample into `image` `[3, h, w]`, `disparity` and `valid` `[1, h, w]`, and metadata.

    Metadata: `has_depth`, `key`, and the fields of `Record`.

    Raises:
        UserError: A file cannot be decoded, or the sample has no image; shard, key and file are
            named.
    """
    name = f"{sample.shard}: {sample.key}"
    decoded = {
        extension: DECODERS[extension](data, f"{name}.{extension}")
        for extension, data in sample.members.items()
        if extension in DECODERS
    }

    # Image
    images = [decoded[extension] for extension in IMAGE_EXTENSIONS if extension in decoded]
    if len(images) != 1:
        raise UserError(f"{name}: a sample needs one image, this one has {len(images)}.")
    image = torch.from_numpy(images[0]).permute(2, 0, 1)  # [h, w, 3] -> [3, h, w]
    size = (image.shape[1], image.shape[2])

    # Disparity (0 without depth) and where it was measured (everywhere without a mask)
    disparity, valid = torch.zeros(1, *size), torch.ones(1, *size, dtype=torch.bool)
    depth = next((extension for extension in decoded if extension.startswith("depth.")), None)
    if depth is not None:
        kind, file = depth_kind or "disparity", f"{name}.{depth}"
        disparity[0] = torch.from_numpy(disparity_from_depth_map(decoded[depth], kind, size, file))
    if "valid.png" in decoded:
        mask = decoded["valid.png"]
        check_map_size(mask.shape, size, f"{name}.valid.png", "mask of valid depth")
        valid[0] = torch.from_numpy(mask > 0)

    return {
        **read_record(sample.members, name)._asdict(),
        "image": image,
        "disparity": disparity,
        "valid": valid,
        "has_depth": depth is not None,
        "key": sample.key,
    }


def resize_and_crop(
    item: dict[str, Any],
    size_px: int | tuple[int, int] | None,
    place: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Resize with antialiasing until the image covers a square or (height, width), and crop.

    The image is averaged in display values, the disparity in disparity (*ours*: as the image
    models' own training data were); a pixel is valid where all that was averaged into it is. The
    disparity is min-max normalized over the crop, which is all that a model is given (*ours*; so
    does the benchmark). Adds `width_px`, the long side of the resized image before the crop: blur
    follows the resize, not the crop. A size of None changes nothing.

    Args:
        item: What `decode_sample` returns.
        size_px: Side of the square, or (height, width).
        place: Where the crop lies between top and bottom, left and right, each in [0, 1); None for
            the center.
    """
    height, width = item["image"].shape[1:]
    if size_px is None:
        return {**item, "width_px": float(max(height, width))}
    height_px, width_px = (size_px, size_px) if isinstance(size_px, int) else size_px
    scale = max(height_px / height, width_px / width)
    new = (max(height_px, round(height * scale)), max(width_px, round(width * scale)))

    def fit(values: Tensor, mode: str) -> Tensor:
        resized = resize(values, *new, mode)
        if place is None:
            return center_crop(resized, height_px, width_px)
        top = int(place[0] * (new[0] - height_px + 1))
        left = int(place[1] * (new[1] - width_px + 1))
        return resized[..., top : top + height_px, left : left + width_px]

    # Bicubic would ring at the edges of depth. Nothing is averaged where there is nothing.
    shape = (1, height_px, width_px)
    disparity, valid = item["disparity"], item["valid"]
    no_depth, no_mask = not bool(disparity.any()), bool(valid.all())
    return {
        **item,
        "image": fit(item["image"], "bicubic"),
        "disparity": (
            torch.zeros(shape) if no_depth else minmax_normalize(fit(disparity, "bilinear"))
        ),
        "valid": (
            torch.ones(shape, dtype=torch.bool)
            if no_mask
            else fit((~valid).float(), "bilinear") == 0
        ),
        "width_px": float(max(new)),
    }


def flip(item: dict[str, Any]) -> dict[str, Any]:
    return {
        **item,
        **{name: item[name].flip(-1) for name in ("image", "disparity", "valid")},
        "caption": mirror_caption(item["caption"]),
    }


def collate(items: list[dict[str, Any]]) -> Batch:
    """Stack items into a batch.

    Raises:
        UserError: The images have different sizes.
    """
    sizes = {tuple(item["image"].shape[1:]) for item in items}
    if len(sizes) > 1:
        shown = ", ".join(f"{w}x{h}" for h, w in sorted(sizes))
        raise UserError(
            f"data.size_px: images of different sizes ({shown}): set size_px, or a batch size of 1."
        )

    # Of side-cars only what all samples have
    def encoded(name: str, none: Tensor) -> Tensor:
        rows = [item.get(name, none) for item in items]
        return torch.stack(rows if all(row.numel() for row in rows) else [none] * len(items))

    # Tensors are stacked, numbers become tensors, strings stay lists.
    columns = {name: [item[name] for item in items] for name in items[0]}
    return Batch(
        image_srgb=torch.stack(columns["image"]),
        disparity=torch.stack(columns["disparity"]),
        has_depth=torch.tensor(columns["has_depth"]),
        source=torch.tensor(columns["source"]),
        index=torch.tensor(columns["index"]),
        key=columns["key"],
        width_px=torch.tensor(columns["width_px"]),
        valid=torch.stack(columns["valid"]),
        caption=columns["caption"],
        f_number=torch.tensor(columns["f_number"], dtype=torch.float32),
        focal_length_mm=torch.tensor(columns["focal_length_mm"], dtype=torch.float32),
        sensor_width_mm=torch.tensor(columns["sensor_width_mm"], dtype=torch.float32),
        prompt_tokens=encoded("tokens", NOT_ENCODED[0]),
        prompt_pooled=encoded("pooled", NOT_ENCODED[1]),
        latent=encoded("latent", torch.zeros(0, 0, 0)),
        focus_target=encoded("focus_target", torch.zeros(0)),
    )
