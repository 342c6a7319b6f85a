"""A generator that starts from published weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from dofsuite.backbones.sdxl.unet_weights import load_unet_weights
from dofsuite.errors import UserError
from dofsuite.text2image import Stages
from tests.text2image.tiny import tiny_module
from tests.text2image.tiny_unet import tiny_unet

KEY = "model.generator_from"


def other_weights(network) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(weight.shape, generator=draw)
        for name, weight in network.state_dict().items()
    }


@pytest.mark.parametrize("layout", ["model", "unet", "safetensors", "bin"])
def test_every_layout_gives_the_same_weights(tmp_path, layout):
    """A file in half precision, as DMD2's, is read into float32 weights."""
    published, unet = tiny_unet(seed=1), tiny_unet(seed=2)
    weights = {name: weight.half() for name, weight in published.state_dict().items()}
    source = tmp_path / f"dmd2_sdxl_4step_unet_fp16.{layout}"
    if layout == "safetensors":
        save_file(weights, source)
    elif layout == "bin":
        torch.save(weights, source)
    else:
        published.half().save_pretrained(source / "unet")
        source = source / "unet" if layout == "unet" else source
    load_unet_weights(unet, str(source), KEY)
    for name, weight in unet.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weights[name].float()), name


def test_weights_that_do_not_fit_are_one_sentence(tmp_path):
    weights = tiny_unet().state_dict()
    file = tmp_path / "unet.safetensors"

    def message() -> str:
        save_file(changed, file)
        with pytest.raises(UserError, match=rf"^{KEY}: ") as error:
            load_unet_weights(tiny_unet(), str(file), KEY)
        assert str(error.value).count(".safetensors") == 1
        return str(error.value)

    changed = {name: weight for name, weight in weights.items() if name != "conv_in.bias"}
    assert "has no conv_in.bias;" in message()
    changed = {**weights, "lora.down": torch.ones(1)}
    assert "has lora.down, which this UNet has not;" in message()
    changed = {**weights, "conv_in.bias": torch.ones(3)}
    assert "conv_in.bias of the shape [3], which is [16] here" in message()


@pytest.mark.parametrize("name", ["nothing/here.txt", "torn.safetensors", "code.bin", "no-such"])
def test_what_is_no_weights_is_one_sentence(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.safetensors").write_bytes(b"\x08")
    (tmp_path / "code.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match=f"^{KEY}: {name}[ :]"):
        load_unet_weights(tiny_unet(), name, KEY)


def test_the_generator_alone_starts_from_them(tmp_path):
    plain = tiny_module(stages=Stages()).networks
    weights, file = other_weights(plain.generator), tmp_path / "four_step.safetensors"
    save_file(weights, file)
    options = {"generator_from": str(file), "exif_conditioned": ("critic",), "stages": Stages()}
    networks = tiny_module(**options).networks
    for name, weight in weights.items():
        exif_name = name.replace("time_embedding.", "time_embedding.stock.")
        assert torch.equal(networks.generator.state_dict()[exif_name], weight)
        for other in (networks.critic, networks.teacher):
            assert torch.equal(other.state_dict()[exif_name], plain.teacher.state_dict()[name])
    with pytest.raises(ValueError, match=r"generator_from: .*stages\.teacher: 0"):
        tiny_module(generator_from=str(file), stages=Stages(teacher=1))
