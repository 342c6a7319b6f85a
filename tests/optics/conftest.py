import pytest
import torch
from torch import Tensor


@pytest.fixture
def scene() -> tuple[Tensor, Tensor]:
    """A made-up image [1, 3, 48, 40] and a signed radius map with a step, a ramp and a zero, up
    to 7 px.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 10, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(48, 40), mode="bilinear")
    radius_px = torch.linspace(-5, 3, 48)[:, None].expand(48, 40).clone()
    radius_px[10:30, 8:25] = 7.0
    radius_px[40, :] = 0.0
    return image, radius_px[None, None]
