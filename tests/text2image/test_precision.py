"""bfloat16 computes, float32 learns: the dtype of all matrix work of a step, and what a small step
changes.
"""

import pytest
import torch

from dofsuite.backbones import SmallSdxl
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from dofsuite.text2image.dmd2.stages import Stages
from tests.text2image.steps_by_hand import MatrixWork, TinyVaeSdxl, photographs, take_step, tiny

STAGES = Stages(teacher=1, deep=6)
STEPS = {
    0: "teacher",
    1: "deep stage, generator",
    2: "deep stage, critic on the generator's sample",
    3: "deep stage, critic",
    7: "full stage, deep generator",
    13: "full stage, shallow generator",
    14: "full stage, shallow critic on the generator's sample",
    15: "full stage, shallow critic",
}
EXIF = ("generator", "critic", "teacher")


def census(module, steps=tuple(STEPS), autocast=True) -> dict[tuple[str, str], set[torch.dtype]]:
    """(Operator, step) to the dtypes that all matrix products and convolutions of some steps were
    given.
    """
    counter, sample = MatrixWork(), None
    for step in steps:
        batch = photographs(
            64, step, module.stages.step(step).is_shallow, rows=2, captions="a red ball at f/2"
        )
        counter.part = STEPS[step]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False), counter:
            sample = take_step(module, batch, step, sample)
    return counter.dtypes


def not_bfloat16(found) -> dict[tuple[str, str], set[torch.dtype]]:
    return {
        place: dtypes - {torch.bfloat16}
        for place, dtypes in found.items()
        if dtypes - {torch.bfloat16}
    }


@pytest.mark.parametrize(
    ("backbone", "in_float32"),
    [
        pytest.param(TinyVaeSdxl(), set(), id="vae"),
        pytest.param(SmallSdxl(), {"bmm"}, id="space to depth", marks=pytest.mark.slow),
    ],
)
def test_under_bf16_mixed_all_matrix_work_of_every_step_is_bfloat16(backbone, in_float32):
    """But for the small codec's fixed rotation, which stays exactly invertible; SDXL's VAE has
    none.
    """
    found = census(tiny(backbone, stages=STAGES, exif_conditioned=EXIF))
    assert {step for _, step in found} == set(STEPS.values())
    assert {name for name, _ in found} >= {"addmm", "mm", "convolution", "convolution_backward"}
    assert any("scaled_dot_product" in name for name, _ in found)
    assert {name for name, _ in not_bfloat16(found)} == in_float32


def test_a_float32_discriminator_is_all_that_is_not_bfloat16():
    found = not_bfloat16(census(tiny(stages=STAGES, discriminator_dtype="float32"), steps=(1, 3)))
    assert {name for name, _ in found} == {"convolution", "convolution_backward"}


def test_without_autocast_the_census_sees_float32():
    found = not_bfloat16(census(tiny(stages=STAGES), steps=(3,), autocast=False))
    assert {"addmm", "convolution", "convolution_backward"} <= {name for name, _ in found}


def changed_share(dtype: torch.dtype) -> float:
    """Share of the generator's weights that its first step changes, at the optimizer's defaults."""
    module = tiny(stages=Stages())
    module.networks.generator.bfloat16() if dtype == torch.bfloat16 else None
    optimizer = module.configure_optimizers()[0][list(module.trained).index("generator")]
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (5e-7, 0.01, (0.9, 0.999))
    weights = list(module.networks.generator.parameters())
    before = [weight.detach().clone() for weight in weights]
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        take_step(
            module, photographs(64, 0, is_shallow=False, rows=2, captions="a red ball"), 0, None
        )
    torch.nn.utils.clip_grad_norm_(weights, module.training_config.gradient_clip)
    optimizer.step()
    changed = sum(int((old != new).sum()) for old, new in zip(before, weights, strict=True))
    return changed / sum(weight.numel() for weight in weights)


def test_a_step_at_5e_7_changes_float32_weights_and_hardly_a_bfloat16_one():
    of_float32, of_bfloat16 = changed_share(torch.float32), changed_share(torch.bfloat16)
    print(f"changed: {of_float32:.2%} of float32, {of_bfloat16:.2%} of bfloat16 weights")
    assert of_float32 > 0.99
    assert of_bfloat16 < 0.05


def test_autocast_is_kept_away_from_a_bfloat16_vae():
    """CUDA's autocast would run its norms in float32."""
    codec, enabled = tiny().networks.codec, []
    for part in (codec.vae.encoder, codec.vae.decoder):
        part.mid_block.register_forward_hook(
            lambda *_: enabled.append(torch.is_autocast_enabled("cpu"))
        )
    with torch.autocast("cpu", torch.bfloat16):
        codec.decode(codec.encode(torch.rand(1, 3, 64, 64)))
    assert enabled == [False, False]


def test_a_bfloat16_teacher_scores_as_autocast_lets_a_float32_one():
    half, full = (tiny(teacher_dtype=dtype).networks for dtype in ("bfloat16", "float32"))
    assert {p.dtype for p in half.teacher.parameters()} == {torch.bfloat16}
    assert {p.dtype for part in (half.generator, half.critic) for p in part.parameters()} == {
        torch.float32
    }
    cond = Conditioning.of(photographs(64, 0, is_shallow=False, rows=2, captions="a red ball"))
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([20, 700])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        of_half, of_full = (
            part.denoiser("teacher", cond).guided_noise(noisy, t, 8.0) for part in (half, full)
        )
    with torch.no_grad():
        exact = full.denoiser("teacher", cond).guided_noise(noisy, t, 8.0)
    assert (of_half - exact).norm() < 2 * (of_full - exact).norm()


def test_a_teacher_that_is_trained_is_not_kept_in_bfloat16():
    with pytest.raises(ValueError, match="teacher_dtype"):
        tiny(stages=Stages(teacher=6), teacher_dtype="bfloat16")
