"""The color segmenter: named colors in light and shade, likeliest first."""

import torch

from dofsuite.data.synthetic.color_segmenter import NAMED_COLORS, ColorSegmenter


def test_every_named_color_is_recognised_in_light_and_in_shade():
    colors = torch.tensor(list(NAMED_COLORS.values()))
    for light in (1.0, 0.5):
        picture = (light * colors).T[None, :, :, None]
        assert ColorSegmenter()(picture)[0, 0, :, 0].tolist() == list(range(len(NAMED_COLORS)))


def test_the_likeliest_names_come_first():
    ids = ColorSegmenter(top_k=3)(torch.tensor([0.95, 0.14, 0.10])[None, :, None, None])
    assert ids.shape == (1, 3, 1, 1)
    assert ids[0, 0].item() == list(NAMED_COLORS).index("red")
