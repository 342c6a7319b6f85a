"""LoRA for generator and fake score: adapters train on weights that all three networks share."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import distributed

from dofsuite.backbones.sdxl.adapters import UnetLora, load_unet_lora
from dofsuite.errors import UserError
from dofsuite.text2image import Stages, Text2Image, Training
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser
from dofsuite.text2image.dmd2.sampling import fresh_noise, sample_image
from dofsuite.text2image.dmd2.trained_weights import TrainedWeights, frozen_to_bfloat16
from dofsuite.text2image.dmd2.working_copy import WorkingCopy
from dofsuite.text2image.footprint import step_footprint
from dofsuite.training.checkpoints.io import read_checkpoint
from dofsuite.training.sharding.strategy import full_state
from tests.text2image.tiny import FULL, SIZE_PX, TINY_SDXL, tiny_module, train

SIZE = (12, SIZE_PX // 2, SIZE_PX // 2)
BOTH = {
    "generator_lora": UnetLora(rank=4, alpha=2.0, targets="all"),
    "critic_lora": UnetLora(rank=2),
}
OPTIONS = {"stages": Stages(deep=0, critic_steps=1), "lens": None}
EMA = {"training": Training(ema_decay=0.5)}

pytestmark = pytest.mark.filterwarnings("ignore")


def fast(parameters):
    return torch.optim.AdamW(parameters, lr=1e-2)


def weights_of(network) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


def checkpoint(folder: Path, steps: int) -> Path:
    return folder / "checkpoints" / f"step-{steps:08d}.ckpt"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four steps with adapters of both networks: the module, its folder, what it began with."""
    folder = tmp_path_factory.mktemp("run")
    module = tiny_module(fast, **OPTIONS, **EMA, **BOTH)
    begin = {name: weights_of(getattr(module.networks, name)) for name in ("generator", "critic")}
    losses = train(module, 4, folder)
    module.export(folder / "export")
    return module, folder, begin, losses


def test_adapters_train_and_the_base_does_not_move(run):
    module, _, begin, _ = run
    stock = module.networks.teacher.state_dict()
    assert not any("lora" in name for name in stock)
    for name, before in begin.items():
        moved = {
            key
            for key, weight in getattr(module.networks, name).named_parameters()
            if not torch.equal(weight, before[key])
        }
        adapters = {key for key in before if "lora_" in key}
        assert moved == adapters
        for key in before.keys() - adapters:
            torch.testing.assert_close(
                before[key], stock[key.replace("base_layer.", "")], rtol=0, atol=0
            )


def test_the_three_networks_and_the_average_hold_the_base_once(run):
    networks, ema = run[0].networks, run[0].ema_generator.module
    base = {weight.data_ptr() for weight in networks.teacher.parameters()}
    for network in (networks.generator, networks.critic, ema):
        own = {n for n, weight in network.named_parameters() if weight.data_ptr() not in base}
        assert own == {name for name, _ in network.named_parameters() if "lora_" in name}


def test_stock_diffusers_with_the_exported_adapter_makes_the_module_s_picture_bit_for_bit(run):
    module, folder, _, _ = run
    networks, average = module.networks, module.ema_generator.module
    base, adapted = (copy.deepcopy(networks.teacher) for _ in range(2))
    load_unet_lora(adapted, folder / "export")
    adapted.requires_grad_(False)  # torch folds products with weights that learn
    merged = UNet2DConditionModel.from_pretrained(
        folder / "export" / "unet", low_cpu_mem_usage=False
    )

    def picture(unet) -> torch.Tensor:
        prompt = networks.prompts.encode(["a red ball", "a blue box"])
        denoiser = ConditionedDenoiser(
            unet, prompt, None, networks.codec.downscale, networks.alphas_cumprod
        )
        return sample_image(denoiser, fresh_noise(SIZE, 0, [0, 1], "picture"), networks.codec)

    expected = picture(average)
    assert not torch.allclose(expected, picture(base), atol=1e-2)
    assert torch.equal(picture(adapted), expected)
    torch.testing.assert_close(picture(merged), expected, rtol=0, atol=1e-4)


def test_the_average_is_that_of_the_adapters(run):
    """0.5 of the one before and 0.5 of the weights, after the first step, which it starts at."""
    folder = run[1]
    first, second = (read_checkpoint(checkpoint(folder, steps))["state_dict"] for steps in (2, 4))
    names = [name for name in second if name.startswith("networks.generator.")]
    assert {name for name in second if name.startswith("networks.critic.")} | set(names) == {
        name for name in second if "lora_" in name and name.startswith("networks.")
    }
    assert any(not torch.equal(first[name], second[name]) for name in names)
    for name in names:
        average = name.replace("networks.generator.", "ema_generator.module.")
        expected = 0.5 * first[average] + 0.5 * second[name]
        torch.testing.assert_close(second[average], expected)


@pytest.mark.slow
def test_a_resumed_run_goes_on_and_another_rank_is_refused(run):
    _, folder, _, losses = run
    resumed = train(tiny_module(fast, **OPTIONS, **EMA, **BOTH), 4, resume=checkpoint(folder, 2))
    assert resumed == {step: losses[step] for step in (2, 3)}
    other = tiny_module(fast, **OPTIONS, **EMA, generator_lora=UnetLora(rank=8))
    with pytest.raises(UserError, match=r"^model.generator_lora, .*rank=4.*, not .*rank=8"):
        train(other, 4, resume=checkpoint(folder, 2))


def test_a_teacher_that_is_trained_is_refused():
    with pytest.raises(ValueError, match=r"critic_lora: .* stages.teacher: 0"):
        Text2Image(stages=Stages(teacher=6), critic_lora=UnetLora())


def test_working_copies_round_adapters_and_share_a_bfloat16_base(run):
    generator = copy.deepcopy(run[0].networks.generator)
    frozen_to_bfloat16(generator)
    TrainedWeights(generator).requires_grad_(True)
    working = WorkingCopy(generator)
    working.bind()
    for (name, weight), slot in zip(generator.named_parameters(), working.slots, strict=True):
        rounded = slot[0]._parameters[slot[1]]
        is_adapter = "lora_" in name
        assert (weight.dtype == torch.float32) == is_adapter == rounded.requires_grad
        assert (weight.data_ptr() == rounded.data_ptr()) != is_adapter
        assert rounded.dtype == torch.bfloat16


@pytest.mark.slow
def test_the_footprint_counts_the_base_once():
    def counted(**options):
        module = Text2Image(TINY_SDXL, stages=FULL, lens=None, size_px=SIZE_PX, **EMA, **options)
        footprint = step_footprint(module, 0, 2, SIZE_PX)
        return footprint, module

    (full, whole), (adapted, module) = counted(), counted(**BOTH)
    unet = sum(weight.nbytes for weight in whole.networks.teacher.parameters())
    adapters = {
        name: sum(weight.nbytes for weight in group.parameters())
        for name, group in module.trained.items()
    }
    head = sum(weight.nbytes for weight in module.networks.discriminator.parameters())
    assert adapted.trained_bytes == sum(adapters.values())
    gained = full.at_peak["weights"] - adapted.at_peak["weights"]
    assert gained == 2 * unet - sum(adapters.values()) + head
    # The average: 4 bytes more of the count of its updates.
    assert adapted.at_peak["average"] == pytest.approx(adapters["generator"], abs=8)
    assert adapted.flops < full.flops


@pytest.mark.slow
def test_sharded_adapters_train_as_plain_ones(tmp_path):
    """FSDP2 on one rank, the frozen weights in bfloat16 and the adapters in float32. What bfloat16
    rounds otherwise parts the runs, as it does in `test_a_run_with_working_copies_learns_as...`.
    """
    options = {**OPTIONS, **EMA, **BOTH, "teacher_dtype": "bfloat16"}
    plain = tiny_module(fast, **options)
    begin = weights_of(plain.networks.generator)
    losses = train(plain, 4)
    try:
        sharded = Text2Image(**{**settings_of(plain), **options})
        found = train(sharded, 4, tmp_path, strategy="fsdp2", limit_val_batches=0)
        state = full_state(sharded.networks.generator.state_dict())
        sharded.export(tmp_path / "export")
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    for step, expected in losses.items():
        assert found[step] == pytest.approx(expected, rel=1e-3 if step < 1 else 5e-2), step
    after = weights_of(plain.networks.generator)
    adapters = [name for name in begin if "lora_" in name]
    assert all(torch.equal(state[name], begin[name]) for name in begin.keys() - set(adapters))
    moved, expected = (
        torch.cat([(weights[name] - begin[name]).flatten() for name in adapters])
        for weights in (state, after)
    )
    assert torch.nn.functional.cosine_similarity(moved, expected, dim=0) > 0.9
    assert (tmp_path / "export" / "pytorch_lora_weights.safetensors").is_file()


def settings_of(module: Text2Image) -> dict:
    optimizers = {f"{name}_optimizer": fast for name in ("generator", "critic", "teacher", "focus")}
    return {"backbone": module.backbone, "size_px": SIZE_PX, **optimizers}
