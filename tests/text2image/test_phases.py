"""Single steps of a tiny real network: what each loss adds, and through what a Shallow one trains
the generator.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from dofsuite.text2image import Weights
from tests.text2image.tiny import FULL, GENERATOR, SHALLOW_GENERATOR, tiny_batch, tiny_module


@pytest.fixture(scope="module")
def full():
    """A module in its full stage, for single steps that change no weight."""
    return tiny_module(stages=FULL)


def gradients_of(module, step, weights=None, terms=None, **exif):
    """Losses of one step by name, and the gradients of the sum of some of them (None: of all)."""
    batch = tiny_batch(shallow=step.is_shallow)
    batch = batch._replace(
        **{name: torch.full((len(batch.key),), number) for name, number in exif.items()}
    )
    module.weights = weights or Weights()
    module.set_requires_grad(module.trained)
    losses, _ = module.losses(step, batch, None)
    module.networks.zero_grad()
    torch.stack(
        [loss for name, loss in losses.items() if terms is None or name in terms]
    ).sum().backward()
    gradients = {
        name: weight.grad
        for name, weight in module.networks.named_parameters()
        if weight.grad is not None
    }
    return {name: loss.item() for name, loss in losses.items()}, gradients


@pytest.mark.parametrize(
    ("step", "zero", "removed"),
    [
        (GENERATOR, "gan_generator", "gan_generator/deep"),
        (GENERATOR, "focus", "focus"),
        (GENERATOR + 1, "gan_critic", "gan_discriminator"),
        (SHALLOW_GENERATOR, "gan_generator", "gan_generator/shallow"),
        (SHALLOW_GENERATOR, "focus", "focus"),
        (SHALLOW_GENERATOR + 2, "gan_critic", "gan_discriminator"),
        (SHALLOW_GENERATOR + 2, "focus", "focus"),
    ],
)
def test_a_zero_weight_removes_its_term_exactly(full, step, zero, removed):
    step = FULL.step(step)
    all_losses, _ = gradients_of(full, step)
    others = all_losses.keys() - {removed}
    _, expected = gradients_of(full, step, terms=others)
    losses, gradients = gradients_of(full, step, Weights(**{zero: 0.0}))
    assert losses == {name: all_losses[name] for name in others}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize(("step", "name"), [(GENERATOR, "deep"), (SHALLOW_GENERATOR, "shallow")])
def test_lambda_weighs_both_losses_of_its_set(full, step, name):
    step = FULL.step(step)
    once, _ = gradients_of(full, step)
    thrice, _ = gradients_of(full, step, Weights(**{name: 3.0}))
    for loss in (f"dm/{name}", f"gan_generator/{name}"):
        assert thrice[loss] == pytest.approx(3 * once[loss], rel=1e-6)


# --- the Shallow branch's gradient ---


@contextmanager
def depth_replaced(network, replace):
    """Replace the depth model's output by a function of it and of the image."""
    handle = network.register_forward_hook(lambda _, args, depth: replace(depth, args[0]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def radius_detached(networks):
    """No gradient from the radius map to the image: depth and focus get it detached."""
    handle = networks.focus.register_forward_pre_hook(
        lambda _, args: tuple(x.detach() for x in args)
    )
    try:
        with depth_replaced(networks.depth, lambda depth, image: depth.detach()):
            yield
    finally:
        handle.remove()


def generator_gradient(module, f_number=1.4):
    """The generator's gradient in a Shallow step, flat."""
    _, gradients = gradients_of(
        module,
        FULL.step(SHALLOW_GENERATOR),
        terms={"dm/shallow", "gan_generator/shallow"},
        f_number=f_number,
    )
    return torch.cat(
        [g.flatten() for name, g in gradients.items() if name.startswith("generator.")]
    )


def test_the_generator_gets_gradient_through_the_image_and_through_the_radius(full):
    total = generator_gradient(full)
    with radius_detached(full.networks):
        through_the_image = generator_gradient(full)
    for gradient in (total, through_the_image, total - through_the_image):
        assert gradient.isfinite().all()
        assert gradient.norm() > 1e-3 * total.norm() > 0


def test_below_the_clamp_the_generator_gets_no_gradient_through_the_radius(full):
    """At f/22 every disc is under a pixel here."""
    total = generator_gradient(full, f_number=22.0)
    with radius_detached(full.networks):
        assert torch.equal(total, generator_gradient(full, f_number=22.0))
    assert total.norm() > 0


def all_at_the_focus(depth, image):
    return torch.full_like(depth, 5.0) + 0 * image.mean()


def infinite_half(depth, image):
    far = torch.zeros_like(depth, dtype=torch.bool)
    far[..., : depth.shape[-2] // 2, :] = True
    return torch.where(far, torch.inf, depth)


@pytest.mark.parametrize("replace", [all_at_the_focus, infinite_half])
@pytest.mark.parametrize("f_number", [1.4, 22.0])
def test_gradient_is_finite_and_not_zero_at_the_edges_of_the_lens(full, replace, f_number):
    with depth_replaced(full.networks.depth, replace):
        gradient = generator_gradient(full, f_number)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0
