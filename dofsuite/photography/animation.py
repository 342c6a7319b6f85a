"""A sweep as an animation: WebP or GIF by Pillow, MP4 by PyAV, which brings its own encoder."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.errors import UserError
from dofsuite.images import thumbnail, to_pil
from dofsuite.photography.photos_config import AnimationFormat

LONG_SIDE_PX = 1280
FRAMES_PER_SECOND = 8
# The in-focus band: signed radius below this, at the animation's size.
BAND_RADIUS_PX = 1.0
BAND_COLOR = (1.0, 0.25, 0.1)
BAND_OPACITY = 0.35


def mark_in_focus(image_srgb: Tensor, radius_px: Tensor) -> Tensor:
    """Tint the pixels of [3, h, w] whose |radius| [1, h, w] is below a pixel."""
    band = (radius_px.abs() < BAND_RADIUS_PX) * BAND_OPACITY
    color = image_srgb.new_tensor(BAND_COLOR)[:, None, None]
    return image_srgb * (1 - band) + color * band


def frame_of(image_srgb: Tensor, radius_px: Tensor | None = None) -> Tensor:
    """Reduce [3, h, w] to a frame, with its in-focus band marked where `radius_px` is given."""
    frame = thumbnail(image_srgb, LONG_SIDE_PX)
    if radius_px is None:
        return frame
    scale = frame.shape[-1] / image_srgb.shape[-1]
    size = frame.shape[-2:]
    reduced_px = interpolate(radius_px[None], size, mode="bilinear", antialias=True)[0]
    return mark_in_focus(frame, reduced_px * scale)


def encode_animation(
    frames: Sequence[Tensor],
    kind: AnimationFormat,
    there_and_back: bool = True,
    frames_per_second: int = FRAMES_PER_SECOND,
) -> bytes:
    """Encode frames as an endless animation (an MP4 is repeated by its player).

    Args:
        frames: [3, h, w] of one size, sRGB in [0, 1].
        kind: File format.
        there_and_back: Append the frames backwards, so that the loop has no jump.
        frames_per_second: Of the animation.

    Raises:
        UserError: MP4 was asked for and PyAV is not installed.
    """
    # Frames in order
    back = frames[-2:0:-1] if there_and_back else ()
    images = [to_pil(frame) for frame in [*frames, *back]]
    if kind == "mp4":
        return _encode_mp4(images, frames_per_second)
    # WebP or GIF, which know how long a frame lasts
    file = io.BytesIO()
    options = {"quality": 90, "method": 4} if kind == "webp" else {"optimize": True}
    images[0].save(
        file,
        kind.upper(),
        save_all=True,
        append_images=images[1:],
        duration=1000 // frames_per_second,
        loop=0,
        **options,
    )
    return file.getvalue()


def _encode_mp4(images: Sequence[Image.Image], frames_per_second: int) -> bytes:
    try:
        import av
    except ImportError:
        raise UserError(
            "--animate mp4 needs PyAV: pip install av, or choose webp or gif."
        ) from None
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=frames_per_second)
        # Chroma is subsampled, so sides are even.
        stream.width, stream.height = (side - side % 2 for side in images[0].size)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18"}
        for image in images:
            pixels = np.asarray(image)[: stream.height, : stream.width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
