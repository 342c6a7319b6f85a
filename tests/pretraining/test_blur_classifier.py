"""The kinds of blur against the radii that define them, and the classifier trained on them."""

import pytest
import torch
from torch.nn import functional

from dofsuite.backbones import SmallBlur
from dofsuite.backbones.perception.blur import KINDS, VERDICTS, verdict_probabilities
from dofsuite.curation.networks import load_blur
from dofsuite.curation.rules import BLUR_LABELS
from dofsuite.data.synthetic.motorcycle import motorcycle
from dofsuite.pretraining import BlurClassifier
from dofsuite.pretraining.blur_classifier import VERDICT_INDEX, balanced_kinds
from dofsuite.pretraining.blurred_kinds import BlurSizes, draw_cameras, photograph
from tests.cpu_trainer import cpu_trainer
from tests.pretraining.test_surrogates import batch_of, scenes  # noqa: F401  (a fixture)

SIZES = BlurSizes()


@pytest.fixture(scope="module")
def two_planes():
    """A subject at disparity 1 before a background at 0, 100 draws."""
    disparity = torch.zeros(100, 1, 64, 64)
    disparity[:, :, 20:44, 20:44] = 1
    return disparity


def radii_px(kind, disparity):
    """Largest radius of the subject and of the background, and the length of the path."""
    number = torch.full((len(disparity),), KINDS.index(kind))
    camera = draw_cameras(number, disparity, SIZES, 7, range(len(disparity)))
    radius_px = (
        camera.level_px[:, None] * (torch.tensor([1.0, 0.0]) - camera.focus_disparity[:, None])
    ).abs()
    extent_px = (camera.path_px.amax(1) - camera.path_px.amin(1)).norm(dim=1)
    return *radius_px.unbind(1), extent_px


def test_each_kind_blurs_what_it_says_and_as_much_as_it_says(two_planes):
    low, high = (64 * share for share in SIZES.radius)
    subject, background, extent = radii_px("all_in_focus", two_planes)
    assert torch.maximum(subject, background).max() <= 64 * SIZES.sharp_radius
    assert extent.max() == 0
    subject, background, extent = radii_px("subject_in_focus", two_planes)
    assert subject.max() < 1e-5
    assert low - 1e-4 <= background.min() < background.max() <= high + 1e-4
    assert extent.max() == 0
    subject, background, extent = radii_px("misfocus", two_planes)
    assert subject.min() >= 0.1 * low
    assert torch.maximum(subject, background).min() >= low - 1e-4
    assert extent.max() == 0
    for kind in ("motion_blur", "camera_shake"):
        subject, background, extent = radii_px(kind, two_planes)
        assert subject.max() < 1e-5
        assert 20 < (background == 0).sum() < 80
        assert extent.min() >= 64 * SIZES.motion[0] - 1e-4
        assert extent.max() <= 2**0.5 * 64 * SIZES.motion[1] + 1e-4


def test_an_image_without_blur_is_left_as_it_is_and_a_subject_in_focus_too(two_planes):
    image = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    number = torch.full((8,), KINDS.index("subject_in_focus"))
    camera = draw_cameras(number, two_planes[:8], SIZES, 0, range(8))
    picture = photograph(image, two_planes[:8], camera, SIZES.gamma)
    inside = slice(26, 38)
    assert (picture - image)[:, :, inside, inside].abs().max() < 1e-3
    assert picture[:, :, :12].std() < 0.5 * image[:, :, :12].std()
    still = camera._replace(level_px=torch.zeros(8))
    assert torch.allclose(photograph(image, two_planes[:8], still, SIZES.gamma), image, atol=1e-6)


def test_a_third_of_the_training_images_has_each_verdict():
    kind = balanced_kinds((torch.arange(900) + 0.5) / 900)
    assert torch.bincount(VERDICT_INDEX[kind]).tolist() == [300, 300, 300]
    assert torch.bincount(kind)[2:].tolist() == [100, 100, 100]


def test_training_lowers_the_loss_and_the_export_judges_alike(scenes, tmp_path):  # noqa: F811
    module = BlurClassifier(optimizer=lambda p: torch.optim.AdamW(p, lr=2e-3))
    batch = batch_of(scenes[:3])
    trainer = cpu_trainer(None, 8, [], enable_checkpointing=False, limit_val_batches=0)
    losses = []
    step = module.training_step
    module.training_step = lambda *inputs: losses.append(step(*inputs)) or losses[-1]
    trainer.fit(module, torch.utils.data.DataLoader([batch] * 8, batch_size=None))
    assert losses[-1] < 0.8 * losses[0]
    module.export(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 10e6
    saved = SmallBlur(weights=str(tmp_path)).load()
    assert torch.allclose(saved(batch.image_srgb), module.model(batch.image_srgb), atol=5e-3)


def test_the_balanced_accuracy_counts_verdicts_not_kinds(scenes):  # noqa: F811
    """A network that calls everything shaken is right about one verdict of three."""
    module = BlurClassifier()
    module.configure_model()
    torch.nn.init.zeros_(module.model.network.head.weight)
    with torch.no_grad():
        module.model.network.head.bias.copy_(10.0 * torch.eye(len(KINDS))[-1])
    module.validation_step(batch_of(scenes[:1]), 0)
    assert module.accuracy.compute().item() == pytest.approx(1 / len(VERDICTS))
    assert module.recall_of_kind.compute().tolist() == [0, 0, 0, 0, 1]


def test_curate_asks_it_and_has_its_words():
    image = torch.from_numpy(motorcycle().image_srgb).permute(2, 0, 1) / 255
    blurred = functional.avg_pool2d(image, 25, stride=1, padding=12)
    assert list(map(load_blur("packaged"), [image, blurred])) == ["none", "undesirable"]
    assert BLUR_LABELS == VERDICTS


def test_the_packaged_classifier_judges_a_held_out_photograph_s_renderings():
    """Eight crops of the Middlebury motorcycle, each with the five kinds of blur."""
    scene, side = motorcycle(), 128
    image = torch.from_numpy(scene.image_srgb).permute(2, 0, 1)[None] / 255
    disparity = 1 / torch.from_numpy(scene.depth_m)[None, None]
    classifier, kinds = SmallBlur().load(), torch.arange(len(KINDS))
    right = torch.zeros(len(KINDS))
    for number in range(8):
        # A crop, its disparity from 0 to 1
        left, size = 30 * number, 500 - 20 * number
        rows, columns = slice(0, size), slice(left, left + size)
        crop = functional.interpolate(image[..., rows, columns], (side, side), mode="area")
        depth = functional.interpolate(disparity[..., rows, columns], (side, side))
        depth = (depth - depth.min()) / (depth.max() - depth.min())
        # A photograph with each kind of blur
        crops, depths = (each.expand(len(KINDS), -1, -1, -1) for each in (crop, depth))
        indices = range(len(KINDS) * number, len(KINDS) * (number + 1))
        camera = draw_cameras(kinds, depths, SIZES, 3, indices)
        pictures = photograph(crops.contiguous(), depths.contiguous(), camera, SIZES.gamma)
        verdicts = verdict_probabilities(classifier(pictures)).argmax(1)
        right += verdicts == VERDICT_INDEX
    recalls = [right[VERDICT_INDEX == v].mean() / 8 for v in range(len(VERDICTS))]
    print([round(float(each), 3) for each in recalls])
    assert sum(recalls) / len(recalls) >= 0.9
