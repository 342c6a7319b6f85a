import jaxtyping
import pytest
import torch
from torch import Tensor

LEVELS = [5, 10, 15, 20]


def sweep_of_contrast(contrast: list[float], scenes: int, seed: int = 0) -> Tensor:
    """[scenes, settings, 3, 24, 20]: noise with a contrast of its own for each setting and each
    scene.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(scenes, 1, 3, 24, 20, generator=generator) - 0.5
    strength = 0.3 + 0.7 * torch.rand(scenes, 1, 1, 1, 1, generator=generator)
    return 0.5 + noise * strength * torch.tensor(contrast).reshape(1, -1, 1, 1, 1)


@pytest.fixture
def as_users_run_it():
    """Without the type checks of our test runs, which would refuse an unknown choice before the
    metric does.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def sweep() -> Tensor:
    """Seven scenes at four levels, sharpness falling like a convex curve, with a little
    disorder.
    """
    clean = sweep_of_contrast([1.0, 0.5, 0.35, 0.3], scenes=7)
    return clean + 0.02 * torch.rand(clean.shape, generator=torch.Generator().manual_seed(1))
