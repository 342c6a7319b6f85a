"""The training step on a tiny real network and real photographs."""

from pathlib import Path

import pytest
import torch

from dofsuite.data import Batch
from dofsuite.diffusion import velocity
from dofsuite.optics import stack_images
from dofsuite.refocus.losses import Stacking, stacking_loss
from tests.refocus.tiny import tiny_batches, tiny_module, train

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_refocus.txt"


@pytest.fixture(scope="module")
def batches():
    return tiny_batches(6)


def test_losses_are_the_golden_ones(batches):
    """A refactor leaves them as they are; a change of behaviour rewrites the file in the same
    commit and says why.
    """
    history = train(tiny_module(), batches)
    lines = [
        f"{step} {name} {value:.6f}"
        for step, losses in enumerate(history)
        for name, value in losses.items()
    ]
    expected = GOLDEN.read_text().splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        line.rsplit(" ", 1)[0] for line in expected
    ]
    for line, golden in zip(lines, expected, strict=True):
        assert float(line.split()[2]) == pytest.approx(float(golden.split()[2]), rel=2e-4), line


def test_an_example_does_not_depend_on_the_batch_it_falls_into(batches):
    module = tiny_module()
    together = module.example(batches[0])
    alone = module.example(Batch(*(field[1:] for field in batches[0])))
    for name in ("reference", "first", "second", "depth", "noise", "t", "mask"):
        assert torch.allclose(getattr(together, name)[1:], getattr(alone, name), atol=2e-5), name
    assert torch.equal(together.first_camera.focus_point[1:], alone.first_camera.focus_point)


def test_all_rows_at_once_and_one_at_a_time_give_one_gradient(batches):
    gradients = []
    for split_backward in ("none", "losses", "rows"):
        module = tiny_module(split_backward=split_backward)
        train(module, batches[:1])  # away from B = 0
        module.zero_grad()
        module.losses(module.example(batches[1]))["loss"].backward()
        gradients.append(
            {n: p.grad.clone() for n, p in module.named_parameters() if p.requires_grad}
        )
    for name, gradient in gradients[0].items():
        for split in gradients[1:]:
            assert torch.allclose(gradient, split[name], rtol=1e-3, atol=1e-7), name


@pytest.mark.parametrize(("split_backward", "rows"), [("losses", [1, 2]), ("rows", [1, 1, 1, 1])])
def test_rows_whose_activations_are_alive_together(batches, split_backward, rows):
    """`rows` runs the first stacking row twice: for the residual, and for its gradient."""
    module = tiny_module(split_backward=split_backward)
    batch_sizes = []
    module.transformer.register_forward_pre_hook(
        lambda _, __, inputs: batch_sizes.append(len(inputs["hidden_states"])), with_kwargs=True
    )
    module.losses(module.example(batches[0]))
    assert batch_sizes == [2 * n for n in rows]


@pytest.mark.parametrize("split_backward", ["losses", "rows"])
def test_split_backward_under_bfloat16_autocast_gives_every_adapter_a_gradient(
    batches, split_backward
):
    module = tiny_module(split_backward=split_backward)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module.losses(module.example(batches[0]))["loss"]
    loss.backward()
    missing = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    # the last double block's text stream has no gradient unless a single block follows, as here
    assert not missing


def test_autocast_leaves_latents_and_images_as_they_are(batches):
    module, image = tiny_module(), batches[0].image_srgb
    expected = module.encode(image)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latent = module.encode(image)[0]
        decoded = module.codec.decode(latent)
    assert torch.equal(latent, expected)
    assert decoded.dtype == torch.float32
    assert torch.allclose((decoded + 1) / 2, image, atol=1e-5)


def test_checkpointing_changes_no_gradient(batches):
    values = []
    for checkpointing in (False, True):
        module = tiny_module(gradient_checkpointing=checkpointing)
        module.losses(module.example(batches[0]))["loss"].backward()
        values.append(module.camera.projector.weight.grad.clone())
    assert torch.allclose(*values, rtol=1e-4, atol=1e-9)


def test_a_perfect_network_has_no_stacking_loss(batches):
    module = tiny_module()
    x = module.example(batches[0])
    v1, v2 = velocity(x.first, x.noise), velocity(x.second, x.noise)
    v_stack = velocity(stack_images(x.mask, x.first, x.second), x.noise)
    assert stacking_loss(v1, v2, x.mask, v_stack).item() < 1e-10


@pytest.mark.parametrize(
    ("stacking", "calls", "rows"), [(Stacking(weight=0.0), 1, 1), (Stacking(), 1, 3)]
)
def test_rows_of_a_step(batches, stacking, calls, rows):
    module = tiny_module(stacking=stacking)
    batch_sizes = []
    module.transformer.register_forward_pre_hook(
        lambda _, __, inputs: batch_sizes.append(len(inputs["hidden_states"])), with_kwargs=True
    )
    module.losses(module.example(batches[0]))
    assert batch_sizes == [rows * 2] * calls


def test_depth_dropout_zeroes_the_depth_image_in_its_share():
    module = tiny_module(depth_dropout=0.5)
    black = module.encode(torch.zeros(1, 3, 32, 32))[0][0]
    depths = [depth for batch in tiny_batches(20, 8) for depth in module.example(batch).depth]
    dropped = sum(torch.allclose(depth, black, atol=1e-5) for depth in depths)
    assert dropped / len(depths) == pytest.approx(0.5, abs=0.12)


def test_frozen_weights_stay_and_trained_ones_move(batches):
    module = tiny_module()
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    train(module, batches[:2])
    moved = {
        name
        for name, parameter in module.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert moved == {
        name for name, parameter in module.named_parameters() if parameter.requires_grad
    }


def test_a_share_out_of_range_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="depth_dropout"):
        tiny_module(depth_dropout=1.5)
