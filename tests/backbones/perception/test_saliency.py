"""Saliency models: values in [0, 1], gradients, BiRefNet's way in and out, and one sentence on
mistakes.
"""

import pytest
import torch
from torch import nn

from dofsuite.backbones import BiRefNet, Metric3D, Sdxl, SmallDepth, SmallSaliency
from dofsuite.backbones.perception.frozen import IMAGENET_MEAN, IMAGENET_STD
from dofsuite.backbones.perception.saliency import BiRefNetSaliency
from dofsuite.backbones.small.depth import save_small
from dofsuite.errors import UserError
from dofsuite.text2image.networks import FocusPredictorConfig, Networks


@pytest.fixture
def image():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_saliency_lies_between_zero_and_one_at_the_image_s_size(image):
    network = SmallSaliency(weights=None).load()
    output = network(image * 3 - 1)  # a generator's images leave [0, 1]
    assert output.shape == (2, 1, 64, 64)
    assert 0 <= output.min() <= output.max() <= 1
    assert network(image[..., :40, :50]).shape == (2, 1, 40, 50)


def test_gradients_reach_the_image_and_no_weight(image):
    network = SmallSaliency(weights=None).load()
    image.requires_grad_()
    network(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_a_saved_small_network_is_read_again(tmp_path, image):
    network = SmallSaliency(weights=None, seed=4).load()
    save_small(network.network, tmp_path)
    assert torch.allclose(
        SmallSaliency(weights=str(tmp_path)).load()(image), network(image), atol=1e-3
    )


def test_a_folder_without_a_stand_in_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        SmallSaliency(weights=str(tmp_path)).load()


class RedLogits(nn.Module):
    """A network of BiRefNet's interface whose last scale is known: twice the red of what it sees,
    as logits.
    """

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, pixels):
        assert pixels.shape[-2:] == (128, 128)
        red = pixels[:, :1] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
        return [torch.full_like(red, torch.nan), self.gain * red]


def test_birefnet_is_shown_a_square_and_its_last_scale_is_read():
    y = torch.linspace(0, 1, 100)[:, None].expand(100, 60)
    image = torch.stack([y, y, y])[None].requires_grad_()
    output = BiRefNetSaliency(RedLogits(), 128)(image)
    assert (output[0, 0] - torch.sigmoid(2 * y)).abs().max() < 0.01
    output.sum().backward()
    assert (image.grad[:, 0] > 0).all()


def test_without_network_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"ZhengPeng7/BiRefNet: .*local copy"):
        BiRefNet(trust_remote_code=True).load()


def test_the_packages_that_remote_code_lacks_are_named(tmp_path):
    """A model folder whose code imports what is not there, as BiRefNet's does without kornia and
    timm.
    """
    code = "from transformers import PretrainedConfig, PreTrainedModel\n"
    (tmp_path / "net.py").write_text(
        f"import no_such_package_here\n{code}class Net(PreTrainedModel):\n    pass\n"
    )
    (tmp_path / "cfg.py").write_text(
        f"{code}class Cfg(PretrainedConfig):\n    model_type = 'net'\n"
    )
    (tmp_path / "config.json").write_text(
        '{"model_type": "net", "auto_map": {"AutoConfig": "cfg.Cfg", '
        '"AutoModelForImageSegmentation": "net.Net"}}'
    )
    with pytest.raises(
        UserError, match=r"packages that are not installed; pip install no_such_package_here\."
    ):
        BiRefNet(str(tmp_path), revision=None, trust_remote_code=True).load()


def test_missing_packages_are_said_before_sdxl_is_loaded():
    class NeverLoaded(Sdxl):
        def load(self):
            raise AssertionError("SDXL was loaded first")

    birefnet = BiRefNet(trust_remote_code=True)
    arguments = (NeverLoaded(), SmallDepth(), birefnet, FocusPredictorConfig())
    with pytest.raises(UserError, match=r"BiRefNet: .*kornia.*pip install 'dofsuite\[saliency\]'"):
        Networks(*arguments, (), 64, True, None, False)
    with pytest.raises(
        UserError, match=r"Metric3D: .*mmcv-lite.*pip install 'dofsuite\[metric3d\]'"
    ):
        Metric3D(trust_remote_code=True).check_runnable()
