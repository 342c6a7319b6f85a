"""What a simulation will give, before it starts: the blur it has and the disk it takes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones import Codec
from dofsuite.errors import UserError
from dofsuite.files import free_bytes
from dofsuite.simulation.config import SimulateConfig
from dofsuite.simulation.scenes import Scene
from dofsuite.simulation.variants import Variant, encoded, encoded_latent, rendered

# Images that are looked at for the histogram, and encoded for the disk; spread evenly (*ours*).
LOOKED_AT = 16
ENCODED = 4
# Of the grid, in each direction.
ENCODED_CAMERAS = 3
EDGES_PX = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 32.0, 64.0, math.inf)
DISPARITY_STEPS = 512
BLOCK_BYTES = 4096
# Above what is expected from the images that were encoded (*ours*).
MARGIN = 1.1


class Plan(NamedTuple):
    looked_at: int
    # Share of pixels of all blurred variants between neighboring EDGES_PX.
    shares: list[float]
    needed_bytes: int
    free_bytes: int


def make_plan(
    scenes: Sequence[Scene], config: SimulateConfig, codec: Codec | None, device: torch.device
) -> Plan:
    """Look at some of the images that are missing.

    Args:
        scenes: What will be written; at least one.
        config: The grid and the format.
        codec: Of latents.
        device: Where variants are rendered.
    """
    # Blur of all variants, and bytes of some
    looked_at = spread(scenes, LOOKED_AT)
    weights = torch.zeros(len(EDGES_PX) - 1, dtype=torch.float64)
    bytes_of_images = []
    for index, scene in enumerate(looked_at):
        image, disparity = scene.read()
        weights += radius_histogram(disparity, config)
        if index < ENCODED:
            bytes_of_images.append(bytes_of(image, disparity, config, codec, device))
    # The disk
    needed = MARGIN * len(scenes) * sum(bytes_of_images) / len(bytes_of_images)
    shares = (weights / weights.sum()).tolist()
    return Plan(len(looked_at), shares, math.ceil(needed), free_bytes(config.output))


def spread(scenes: Sequence[Scene], count: int) -> list[Scene]:
    count = min(count, len(scenes))
    return [scenes[index * len(scenes) // count] for index in range(count)]


def radius_histogram(
    disparity: Float[Tensor, "1 1 h w"], config: SimulateConfig
) -> Float[Tensor, "bins"]:
    """Count an image's pixels by blur radius, over all its blurred variants.

    Radius of a pixel: level |D - plane| at the image's long side; D is taken to 1 / 512.
    """
    # Pixels by disparity, then every camera's radius of each bin
    steps = (disparity.double() * DISPARITY_STEPS).round().long().flatten()
    pixels = torch.bincount(steps, minlength=DISPARITY_STEPS + 1).double()
    disparities = torch.linspace(0, 1, DISPARITY_STEPS + 1, dtype=torch.float64)
    planes = torch.tensor(config.planes, dtype=torch.float64)[:, None, None]
    levels = torch.tensor(config.levels, dtype=torch.float64)[:, None]
    ratio = max(disparity.shape[-2:]) / config.reference_width_px
    radii_px = (levels * (disparities - planes).abs() * ratio).flatten()
    # Sorted into the histogram
    bins = torch.bucketize(radii_px, torch.tensor(EDGES_PX[1:-1], dtype=torch.float64), right=True)
    cameras = len(config.planes) * len(config.levels)
    return torch.bincount(bins, pixels.repeat(cameras), minlength=len(EDGES_PX) - 1)


def bytes_of(
    image: Tensor,
    disparity: Tensor,
    config: SimulateConfig,
    codec: Codec | None,
    device: torch.device,
) -> int:
    """Bytes on disk that an image's variants take, from a few cameras spread over the grid."""
    # All latents have one size
    pixels = image.shape[-2] * image.shape[-1]
    beside = 2 * pixels + BLOCK_BYTES * math.ceil(150 * config.variants / BLOCK_BYTES)
    if codec is not None:
        latent = encoded_latent(codec, image[0], device)
        return beside + latent.numel() * latent.element_size() * config.variants
    # Pictures: the image itself, and some of the grid
    cameras = [
        Variant(plane, level)
        for plane in spread_values(config.planes)
        for level in spread_values(config.levels)
    ]
    pictures = list(rendered(image, disparity, [Variant(0.0, 0.0), *cameras], config, device))
    sizes = [BLOCK_BYTES * math.ceil(len(encoded(each, config)) / BLOCK_BYTES) for each in pictures]
    return beside + sizes[0] + math.ceil((config.variants - 1) * sum(sizes[1:]) / len(cameras))


def spread_values(values: tuple[float, ...]) -> list[float]:
    # The ends and what lies between, evenly: a rough integral over the grid
    count = min(ENCODED_CAMERAS, len(values))
    return [values[round(index * (len(values) - 1) / max(1, count - 1))] for index in range(count)]


def show_plan(plan: Plan, todo: int, done: int, config: SimulateConfig) -> None:
    """Print the plan.

    Raises:
        UserError: The disk has not the room.
    """
    # What is made
    size = "their own size" if config.size_px is None else f"{config.size_px} px"
    print(
        f"{todo} images x {config.variants} variants ({len(config.planes)} focal planes x "
        f"{len(config.levels)} bokeh levels, and in focus everywhere), {config.file_format}, {size}"
        + (f"; {done} images are there already" if done else "")
    )
    # Blur
    print(f"blur radius of the pixels of all blurred variants, by {plan.looked_at} images:")
    last = max(index for index, share in enumerate(plan.shares) if share > 0)
    for index, share in enumerate(plan.shares[: last + 1]):
        name = f"{EDGES_PX[index]:g} to {EDGES_PX[index + 1]:g} px"
        print(f"  {name:>13} {100 * share:5.1f} % {'#' * round(50 * share)}")
    # Disk
    needed, free = plan.needed_bytes / 1e9, plan.free_bytes / 1e9
    print(f"disk: about {needed:.3f} GB are needed, {free:.1f} GB are free", flush=True)
    if plan.needed_bytes > plan.free_bytes:
        raise UserError(
            f"{config.output}: about {needed:.1f} GB are needed and {free:.1f} GB are free on its "
            "disk: free some space, or take fewer --planes, --levels or --count."
        )
