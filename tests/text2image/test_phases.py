"""Single turns of a tiny real network: what each loss adds, and by which ways a Shallow one reaches
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
    """A module in its full stage, of which single phases are asked; none of them changes a
    weight.
    """
    return tiny_module(stages=FULL)


def gradients_of(module, turn, weights=None, terms=None, **exif):
    """Losses of one turn by name, and the gradients of the sum of some of them (None: of all)."""
    batch = tiny_batch(shallow=turn.is_shallow)
    batch = batch._replace(
        **{name: torch.full((len(batch.key),), number) for name, number in exif.items()}
    )
    module.weights = weights or Weights()
    module.set_requires_grad(module.trained)
    losses, _ = module.phase(turn, batch, None)
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
        (GENERATOR, "gan_generator", "fooling_deep"),
        (GENERATOR, "focus", "focus"),
        (GENERATOR + 1, "gan_critic", "discriminating"),
        (SHALLOW_GENERATOR, "gan_generator", "fooling_shallow"),
        (SHALLOW_GENERATOR, "focus", "focus"),
        (SHALLOW_GENERATOR + 2, "gan_critic", "discriminating"),
        (SHALLOW_GENERATOR + 2, "focus", "focus"),
    ],
)
def test_a_zero_weight_removes_its_term_exactly(full, step, zero, removed):
    turn = FULL.turn(step)
    all_losses, _ = gradients_of(full, turn)
    others = all_losses.keys() - {removed}
    _, expected = gradients_of(full, turn, terms=others)
    losses, gradients = gradients_of(full, turn, Weights(**{zero: 0.0}))
    assert losses == {name: all_losses[name] for name in others}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize(("step", "name"), [(GENERATOR, "deep"), (SHALLOW_GENERATOR, "shallow")])
def test_lambda_weighs_both_losses_of_its_set(full, step, name):
    turn = FULL.turn(step)
    once, _ = gradients_of(full, turn)
    thrice, _ = gradients_of(full, turn, Weights(**{name: 3.0}))
    for loss in (f"matching_{name}", f"fooling_{name}"):
        assert thrice[loss] == pytest.approx(3 * once[loss], rel=1e-6)


# --- the Shallow branch's gradient ---


@contextmanager
def answering(network, answer):
    """Let the depth model answer something else, made of its answer and its picture."""
    handle = network.register_forward_hook(lambda _, args, given: answer(given, args[0]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def radius_cut_off(networks):
    """Let no gradient go from the radius map to the picture: depth and focus see it detached."""
    handle = networks.focus.register_forward_pre_hook(
        lambda _, args: tuple(x.detach() for x in args)
    )
    try:
        with answering(networks.depth, lambda depth, image: depth.detach()):
            yield
    finally:
        handle.remove()


def generator_gradient(module, f_number=1.4):
    """The generator's gradient on a Shallow turn, flat."""
    _, gradients = gradients_of(
        module,
        FULL.turn(SHALLOW_GENERATOR),
        terms={"matching_shallow", "fooling_shallow"},
        f_number=f_number,
    )
    return torch.cat(
        [g.flatten() for name, g in gradients.items() if name.startswith("generator.")]
    )


def test_gradient_reaches_the_generator_through_the_image_and_through_the_radius(full):
    whole = generator_gradient(full)
    with radius_cut_off(full.networks):
        through_the_image = generator_gradient(full)
    for gradient in (whole, through_the_image, whole - through_the_image):
        assert gradient.isfinite().all()
        assert gradient.norm() > 1e-3 * whole.norm() > 0


def test_below_the_clamp_nothing_reaches_the_generator_through_the_radius(full):
    """At f/22 every disc is under a pixel here."""
    whole = generator_gradient(full, f_number=22.0)
    with radius_cut_off(full.networks):
        assert torch.equal(whole, generator_gradient(full, f_number=22.0))
    assert whole.norm() > 0


def all_at_the_focus(depth, image):
    return torch.full_like(depth, 5.0) + 0 * image.mean()


def infinite_half(depth, image):
    far = torch.zeros_like(depth, dtype=torch.bool)
    far[..., : depth.shape[-2] // 2, :] = True
    return torch.where(far, torch.inf, depth)


@pytest.mark.parametrize("answer", [all_at_the_focus, infinite_half])
@pytest.mark.parametrize("f_number", [1.4, 22.0])
def test_gradient_is_finite_and_not_zero_at_the_edges_of_the_lens(full, answer, f_number):
    with answering(full.networks.depth, answer):
        gradient = generator_gradient(full, f_number)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0
