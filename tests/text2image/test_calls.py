"""How often each network is called in a cycle of the full stage, with and without gradient.

Where the generator's step comes first, its own sample serves the critic's step after it: a cycle
simulates five times, not six.
"""

from collections import Counter

import pytest

from dofsuite.text2image import Stages
from dofsuite.text2image.dmd2.sampling import step_index
from tests.text2image.steps_by_hand import photographs, take_step, tiny

SEED = 131
CRITIC_STEPS = 5


def calls(module, steps) -> Counter:
    """(Network, rows, whether its output requires grad) of every call."""
    counts, networks = Counter(), module.networks
    parts = {
        name: getattr(networks, name)
        for name in ("generator", "critic", "teacher", "discriminator", "depth", "focus")
    }
    parts |= {
        "saliency": networks.saliency,
        "decode": networks.codec.vae.decoder,
        "encode": networks.codec.vae.encoder,
    }

    def note(name, part, out):
        # For the discriminator the fake score is a view of it that ends after the mid-block.
        name += " to the mid-block" if not len(getattr(part, "up_blocks", "all")) else ""
        first = out if hasattr(out, "shape") else out[0]
        counts[name, first.shape[0], first.requires_grad] += 1

    for name, part in parts.items():
        part.register_forward_hook(lambda part, _, out, name=name: note(name, part, out))
    sample = None
    for step in steps:
        batch = photographs(64, step, module.stages.step(step).is_shallow, captions="a red ball")
        sample = take_step(module, batch, step, sample)
    return counts


def expected(simulated: int, samples: int, is_shallow: bool) -> Counter:
    """The table, with `simulated` forwards of the generator for the samples of a cycle."""
    table = Counter()
    table["generator", 1, True] = 1
    table["generator", 1, False] = simulated - 1
    table["teacher", 2, False] = 1  # conditional and unconditional in one call
    table["critic", 1, False] = 1
    table["critic", 1, True] = (
        CRITIC_STEPS  # denoising, and the fake's features from the same forward
    )
    table["critic to the mid-block", 1, True] = 1 + CRITIC_STEPS
    table["discriminator", 1, True] = 1 + 2 * CRITIC_STEPS
    table["encode", 1, False] = CRITIC_STEPS
    for name in ("depth", "saliency"):
        table[name, 1, False] = 1 + CRITIC_STEPS
    table["focus", 1, True] = 1 + CRITIC_STEPS
    for name in ("decode", "depth", "focus", "encode") if is_shallow else ():
        table[name, 1, True] += 1
        table[name, 1, False] += samples - 1
    return table


@pytest.mark.parametrize("order", ["critic_first", "same_kind"])
@pytest.mark.parametrize("cycle", [0, 1], ids=["deep", "shallow"])
def test_a_cycle_calls_each_network_as_often_as_the_table_says(cycle, order):
    stages = Stages(deep=0, critic_order=order)
    steps = range(6 * cycle, 6 * cycle + 6)
    sampled = [step for step in steps if order == "critic_first" or step % 6 != 1]
    simulated = sum(step_index(SEED, step) + 1 for step in sampled)
    found = calls(tiny(stages=stages, seed=SEED), steps)
    assert found == expected(simulated, len(sampled), is_shallow=cycle == 1)
