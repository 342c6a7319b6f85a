"""Focus stacking: which of two images is sharper at each pixel, and their composite.

DiffCamera, appendix C: eq. (8) stacks pixels by a binary mask, eq. (9) stacks latents by the same
mask brought down to the latent's size by bilinear interpolation, which makes it soft.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dofsuite.optics.color import srgb_to_luma
from dofsuite.optics.meta import at_least_float32


def laplacian(image: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
    """4-neighbor Laplacian: up + down + left + right - 4 center.

    The border is mirrored about the edge pixel (reflect 101). Equal to `cv2.Laplacian(image,
    ksize=1)` with OpenCV's default border. An axis of length 1 adds nothing.
    """
    return _second_difference(image, -1) + _second_difference(image, -2)


def _second_difference(image: Tensor, dim: int) -> Tensor:
    length = image.shape[dim]
    if length == 1:
        return torch.zeros_like(image)
    here = torch.arange(length, device=image.device)
    after = torch.where(here + 1 < length, here + 1, length - 2)
    return image.index_select(dim, (here - 1).abs()) + image.index_select(dim, after) - 2 * image


def laplacian_sharpness(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """|Laplacian| at each pixel: larger is sharper.

    Paper: "the Laplacian maps of the images", no channel rule. Here (*ours*): of the BT.601 luma of
    the values given, because that is what the benchmark's Laplacian variance is taken of. Computed
    in float32 at least.
    """
    return laplacian(srgb_to_luma(at_least_float32(image))).abs()


def stack_mask(
    image_a: Float[Tensor, "b 3 h w"], image_b: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, "b 1 h w"]:
    """The mask M of eq. (8): 1 where |Lap(a)| > |Lap(b)|, else 0; float32, no gradient."""
    return (laplacian_sharpness(image_a) > laplacian_sharpness(image_b)).float()


def stack_images(
    mask: Float[Tensor, "b 1 h w"],
    image_a: Float[Tensor, "b c h w"],
    image_b: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h w"]:
    """M a + (1 - M) b, eq. (8) in pixels, eq. (9) in latents with a mask from `downsample_mask`."""
    mask = mask.to(image_a.dtype)
    return mask * image_a + (1 - mask) * image_b


def downsample_mask(
    mask: Float[Tensor, "b 1 H W"], size: tuple[int, int], antialias: bool = False
) -> Float[Tensor, "b 1 h w"]:
    """The mask at a latent's (height, width), in [0, 1], by bilinear interpolation (*stated*).

    Plain bilinear interpolation at a factor of 8 uses the four middle pixels of each 8 x 8 block
    and no other. `antialias=True` (*ours*) averages over the whole support instead, so that each
    latent pixel has its true share.
    """
    return functional.interpolate(
        mask, size=size, mode="bilinear", align_corners=False, antialias=antialias
    )
