"""The EXIF embedding: zero at the start, then added to the timestep's, removed for diffusers'
stock layout.
"""

import math

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from dofsuite.errors import UserError
from dofsuite.text2image.camera.exif import Exif, ExifEmbedder, with_exif, without_exif
from tests.text2image.tiny_unet import inputs, tiny_unet

EXIF = Exif.checked([1.8, 4.0, 22.0], [24.0, 50.0, 135.0])


def predict(unet, condition=None):
    noisy, t, prompt = inputs()
    added = {
        "text_embeds": prompt.pooled,
        "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]]).expand(3, 6),
    }
    return unet(noisy, t, prompt.tokens, timestep_cond=condition, added_cond_kwargs=added).sample


def trained_embedder(dim=64, **config):
    torch.manual_seed(3)
    embedder = ExifEmbedder(dim=dim, hidden=32, num_frequencies=8, **config)
    torch.nn.init.normal_(embedder.last.weight)
    torch.nn.init.normal_(embedder.last.bias)
    return embedder


def test_a_new_embedding_changes_nothing_bit_for_bit():
    before = predict(tiny_unet())
    unet = with_exif(tiny_unet())
    assert torch.equal(predict(unet, EXIF.stacked()), before)
    assert torch.equal(predict(unet), before)


def test_a_trained_embedding_changes_each_item_by_its_own_exif_only():
    unet = with_exif(
        tiny_unet(), trained_embedder(tiny_unet().time_embedding.linear_2.out_features)
    )
    with torch.no_grad():
        plain, first = predict(unet), predict(unet, EXIF.stacked())
        other = predict(unet, Exif.checked([1.8, 8.0, 22.0], [24.0, 50.0, 135.0]).stacked())
    assert (plain - first).abs().flatten(1).amax(1).gt(1e-3).all()
    assert torch.allclose(first[[0, 2]], other[[0, 2]], atol=1e-6)
    assert (first[1] - other[1]).abs().max() > 1e-3


def test_an_item_without_exif_is_as_without_the_embedding():
    unet = with_exif(
        tiny_unet(), trained_embedder(tiny_unet().time_embedding.linear_2.out_features)
    )
    condition = EXIF.stacked().clone()
    condition[1, 0] = math.nan
    with torch.no_grad():
        assert torch.allclose(predict(unet, condition)[1], predict(unet)[1], atol=1e-6)
    predict(unet, condition).square().mean().backward()
    assert all(
        torch.isfinite(weight.grad).all() for weight in unet.time_embedding.exif.parameters()
    )


def test_the_vector_is_the_stated_chain_written_in_numpy():
    embedder = trained_embedder(input_scale="linear")
    weights = {name: value.double().numpy() for name, value in embedder.state_dict().items()}
    angles = np.array([2.8, 85.0])[:, None] * 10000.0 ** (-np.arange(8) / 8)
    sinusoids = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).reshape(-1)
    hidden = weights["first.weight"] @ sinusoids + weights["first.bias"]
    expected = weights["last.weight"] @ (hidden / (1 + np.exp(-hidden))) + weights["last.bias"]
    vector = embedder(Exif.checked(2.8, 85.0).stacked())[0].detach().numpy()
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-4)


def test_on_the_log_scale_a_stop_is_the_same_step_everywhere():
    scaled = ExifEmbedder(dim=4, hidden=4)._scaled(
        torch.tensor([[1.0, 25.0], [2.0, 50.0], [4.0, 100.0], [128.0, 2000.0]])
    )
    assert torch.allclose(scaled[1] - scaled[0], scaled[2] - scaled[1], rtol=1e-4)
    assert scaled[3].tolist() == pytest.approx([1000.0, 1000.0], rel=1e-6)


def test_the_last_projection_learns_at_once_and_the_first_one_after_it():
    unet = with_exif(tiny_unet())
    embedder = unet.time_embedding.exif
    predict(unet, EXIF.stacked()).square().mean().backward()
    assert embedder.last.weight.grad.abs().max() > 0
    assert embedder.first.weight.grad.abs().max() == 0
    with torch.no_grad():
        embedder.last.weight -= embedder.last.weight.grad
    predict(unet, EXIF.stacked()).square().mean().backward()
    assert embedder.first.weight.grad.abs().max() > 0


def test_the_unet_saves_in_stock_layout_and_comes_back_with_its_embedder(tmp_path):
    stock = tiny_unet()
    unet = with_exif(tiny_unet(), trained_embedder(stock.time_embedding.linear_2.out_features))
    with torch.no_grad():
        expected = predict(unet, EXIF.stacked())
    without_exif(unet).save_pretrained(tmp_path / "exif_embedder")
    unet.save_pretrained(tmp_path / "unet")
    assert unet.state_dict().keys() == stock.state_dict().keys()
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    with_exif(loaded, ExifEmbedder.from_pretrained(tmp_path / "exif_embedder"))
    with torch.no_grad():
        assert torch.equal(predict(loaded, EXIF.stacked()), expected)


def test_what_does_not_fit_together_is_an_error():
    with pytest.raises(ValueError, match="takes EXIF already"):
        with_exif(with_exif(tiny_unet()))
    with pytest.raises(ValueError, match="takes no EXIF"):
        without_exif(tiny_unet())
    with pytest.raises(ValueError, match="time_cond_proj_dim"):
        with_exif(tiny_unet(exif_dim=2))
    with pytest.raises(ValueError, match="vectors of 8"):
        with_exif(tiny_unet(), ExifEmbedder(dim=8, hidden=8))


def test_one_number_serves_the_batch():
    exif = Exif.checked([1.8, 22], 50)
    assert exif.focal_length_mm.tolist() == [50.0, 50.0]
    assert exif.stacked().shape == (2, 2)


@pytest.mark.parametrize(
    ("f_number", "focal_length_mm", "key"),
    [
        (0, 50, "f_number: 0 "),
        (-2.8, 50, "f_number: -2.8 "),
        (math.nan, 50, "f_number: nan "),
        (math.inf, 50, "f_number: inf "),
        ([2.8, 0], 50, "f_number: 0 "),
        (2.8, 0, "focal_length_mm: 0 mm "),
        (2.8, 50_000, "focal_length_mm: 50000 mm "),
        ([2.8, 4, 8], [35, 50], "focal_length_mm: 2 numbers "),
    ],
)
def test_exif_that_no_camera_has_is_an_error_of_one_sentence(f_number, focal_length_mm, key):
    with pytest.raises(UserError) as caught:
        Exif.checked(f_number, focal_length_mm)
    message = str(caught.value)
    assert message.startswith(key)
    assert message.endswith(".")
    assert ". " not in message
