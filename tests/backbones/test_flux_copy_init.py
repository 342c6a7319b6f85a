"""The copying start: an untrained network's flow ends at the reference, whatever the rest is."""

import pytest
import torch

from dofsuite.backbones import SmallFlux, family_of
from dofsuite.diffusion import euler_times
from dofsuite.refocus.sampling import euler


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def small(**options) -> SmallFlux:
    options = {"heads": 3, "single_blocks": 2, "downscale": 2} | options
    return SmallFlux(weights=None, whitening=0.8, start="copying", **options)


@torch.no_grad()
def end_of_flow(modules, reference, depth, token, seed) -> torch.Tensor:
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))

    def velocity(latent, t):
        return family_of(modules.transformer).predict_velocity(
            modules.transformer, latent, reference, depth, token, t, modules.pooled_text
        )

    return euler(velocity, noise, euler_times(4, 15.0))


def test_an_untrained_network_ends_at_its_reference():
    modules = small().load()
    image = images(2, 3, 32, 32)
    reference = modules.codec.encode(image * 2 - 1)
    depth = modules.codec.encode(images(2, 1, 32, 32, seed=1).expand(-1, 3, -1, -1) * 2 - 1)
    ends = [
        end_of_flow(modules, reference, depth, images(2, 1, 64, seed=seed) - 0.5, seed)
        for seed in (2, 3)  # prompt and noise
    ]
    for end in ends:
        copied = (modules.codec.decode(end) + 1) / 2
        assert (copied - image).abs().mean() < 0.005


def test_velocity_at_any_time_leads_to_the_reference():
    modules = small().load()
    reference = modules.codec.encode(images(1, 3, 32, 32) * 2 - 1)
    noisy = torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))
    for t in (0.2, 0.5, 0.9, 1.0):
        with torch.no_grad():
            velocity = family_of(modules.transformer).predict_velocity(
                modules.transformer,
                noisy,
                reference,
                torch.zeros_like(reference),
                torch.zeros(1, 1, 64),
                torch.tensor([t]),
                modules.pooled_text,
            )
        error = velocity - (noisy - reference) / t
        assert float(error.norm() / velocity.norm()) < 0.03


def test_a_network_as_narrow_as_its_tokens_is_an_error():
    with pytest.raises(ValueError, match="heads: 6"):
        small(heads=6, downscale=4).load()
