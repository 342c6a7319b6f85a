"""Sweeps as animations, read back by Pillow and PyAV."""

import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.photography.animation import encode_animation, frame_of, mark_in_focus


@pytest.fixture
def frames():
    """Gray frames 0.2, 0.5, 0.8, of odd sides."""
    return [torch.full((3, 33, 47), level) for level in (0.2, 0.5, 0.8)]


THERE_AND_BACK = [51, 128, 204, 128]


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_pillow_reads_every_frame_there_and_back(frames, kind):
    animation = Image.open(io.BytesIO(encode_animation(frames, kind)))
    levels = []
    for index in range(animation.n_frames):
        animation.seek(index)
        levels.append(np.asarray(animation.convert("RGB")).mean())
    assert animation.size == (47, 33)
    assert levels == pytest.approx(THERE_AND_BACK, abs=2)


def test_a_browser_s_mp4_has_even_sides(frames):
    with av.open(io.BytesIO(encode_animation(frames, "mp4"))) as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (46, 32)
    assert decoded == pytest.approx(THERE_AND_BACK, abs=3)


def test_the_band_is_where_the_radius_is_below_a_pixel():
    image, radius_px = torch.full((3, 1, 4), 0.5), torch.tensor([[[-2.0, -0.9, 0.9, 2.0]]])
    changed = (mark_in_focus(image, radius_px) != image).any(0)[0]
    assert changed.tolist() == [False, True, True, False]


def test_radii_shrink_with_the_frame():
    """1.5 px of 2560 are 0.75 px of 1280: in the band there."""
    image, radius_px = torch.full((3, 64, 2560), 0.5), torch.full((1, 64, 2560), 1.5)
    frame = frame_of(image, radius_px)
    assert frame.shape == (3, 32, 1280)
    assert (frame != 0.5).any(0).all()
