import itertools

import pytest
import torch

from dofsuite.metrics import ContentConsistency, chance_consistency, content_consistency
from dofsuite.metrics.sweeps import setting_pairs

UNLABELLED = ["skip", "miss", "match"]
REFERENCES = {
    "all": list(itertools.combinations(range(4), 2)),
    "adjacent": [(0, 1), (1, 2), (2, 3)],
    "first": [(0, 1), (0, 2), (0, 3)],
    "last": [(0, 3), (1, 3), (2, 3)],
}


def channels_as_classes(images):
    """A segmenter that reads its classes, -1 to 9, from the three channels."""
    return (images * 10).round().long() - 1


def images_of(classes):
    """The images that `channels_as_classes` reads as `classes`."""
    return (classes + 1) / 10


@pytest.fixture
def sweep():
    """Three scenes at four settings with classes -1 (none) to 9; a fifth of the pixels have no
    class at all.
    """
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(-1, 10, (3, 4, 3, 6, 5), generator=generator)
    nothing = torch.rand(3, 4, 1, 6, 5, generator=generator) < 0.2
    return images_of(classes.masked_fill(nothing, -1))


def counted_in_a_loop(sweep, pairs, unlabelled):
    agreeing = counted = 0
    for scene in channels_as_classes(sweep):
        for i, j in pairs:
            for row, column in itertools.product(range(6), range(5)):
                a, b = (set(scene[setting, :, row, column].tolist()) - {-1} for setting in (i, j))
                if unlabelled == "skip" and not (a and b):
                    continue
                both_empty = unlabelled == "match" and not a and not b
                agreeing, counted = agreeing + bool(a & b or both_empty), counted + 1
    return agreeing / counted


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("unlabelled", UNLABELLED)
def test_it_is_the_share_counted_pixel_by_pixel(sweep, reference, unlabelled):
    score = content_consistency(
        sweep, channels_as_classes, reference=reference, ignore_index=-1, unlabelled=unlabelled
    )
    assert score.item() == pytest.approx(
        counted_in_a_loop(sweep, REFERENCES[reference], unlabelled), rel=1e-12
    )


@pytest.mark.parametrize("reference", REFERENCES)
def test_pairs_of_settings_are_those_written_out(reference):
    assert list(zip(*setting_pairs(4, reference), strict=True)) == REFERENCES[reference]


def test_without_an_ignored_id_minus_one_is_a_class_like_any_other():
    sweep = images_of(torch.full((1, 2, 3, 4, 4), -1))
    assert content_consistency(sweep, channels_as_classes) == 1


def test_top_k_takes_the_likeliest_classes():
    classes = torch.zeros(1, 2, 3, 4, 4)
    classes[0, 0], classes[0, 1] = (
        torch.tensor([1, 2, 3])[:, None, None],
        torch.tensor([4, 5, 1])[:, None, None],
    )
    scores = [
        content_consistency(images_of(classes), channels_as_classes, top_k=k).item()
        for k in (1, 2, 3)
    ]
    assert scores == [0, 0, 1]


@pytest.mark.parametrize(("num_classes", "chance"), [(10, 0.708), (150, 0.059)])
def test_chance_is_what_random_classes_score(num_classes, chance):
    generator = torch.Generator().manual_seed(0)

    def random_classes(images):
        scores = torch.rand(len(images), num_classes, *images.shape[-2:], generator=generator)
        return scores.topk(3, dim=1).indices

    score = content_consistency(torch.rand(4, 2, 3, 100, 100), random_classes).item()
    assert chance_consistency(num_classes, 3) == pytest.approx(chance, abs=0.0005)
    assert score == pytest.approx(chance, abs=0.01)  # four standard deviations


def test_chance_is_1_where_any_two_sets_must_meet():
    assert chance_consistency(5, 3) == chance_consistency(3, 3) == 1


def test_the_metric_tells_its_chance_and_warns_where_it_is_high():
    metric = ContentConsistency(channels_as_classes, num_classes=150)
    assert metric.chance == pytest.approx(0.0592, abs=1e-4)
    assert "chance=0.0592" in repr(metric)
    with pytest.warns(UserWarning, match="3 of 10 classes meet by chance in 71% of pixels"):
        ContentConsistency(channels_as_classes, num_classes=10)
    with pytest.warns(UserWarning, match="by chance"):
        content_consistency(torch.rand(1, 2, 3, 4, 4), channels_as_classes, num_classes=29)
    assert ContentConsistency(channels_as_classes).chance is None


def test_a_network_s_own_number_of_classes_is_used_and_the_network_moves_with_the_metric():
    class Network(torch.nn.Conv2d):
        num_classes = 40

        def forward(self, images):
            return super().forward(images).topk(3, dim=1).indices

    metric = ContentConsistency(Network(3, 40, 1).eval())
    assert metric.chance == pytest.approx(chance_consistency(40, 3))
    assert "segmenter='Network'" in repr(metric)
    metric.to("meta")
    assert metric.segmenter.weight.is_meta


def test_classes_of_another_size_than_the_images_are_taken(sweep):
    coarse = content_consistency(sweep, lambda images: channels_as_classes(images[..., ::2, ::2]))
    assert coarse == content_consistency(sweep[..., ::2, ::2], channels_as_classes)


def test_no_labelled_pixel_gives_0_and_a_warning():
    nothing = images_of(torch.full((1, 2, 3, 4, 4), -1))
    metric = ContentConsistency(channels_as_classes, ignore_index=-1)
    metric.update(nothing)
    with pytest.warns(UserWarning, match="no pixel has a class"):
        assert metric.compute() == 0


@pytest.mark.usefixtures("as_users_run_it")
def test_mistakes_are_rejected_by_name(sweep):
    with pytest.raises(ValueError, match="reference must be one of adjacent, all, first, last"):
        ContentConsistency(channels_as_classes, reference="middle")
    with pytest.raises(ValueError, match="unlabelled must be one of skip, miss, match"):
        ContentConsistency(channels_as_classes, unlabelled="drop")
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        ContentConsistency(channels_as_classes, top_k=0)
    with pytest.raises(ValueError, match="top_k must be at most the number of classes, 2"):
        ContentConsistency(channels_as_classes, num_classes=2)
    with pytest.raises(ValueError, match=r"segmenter must give integers \[4, 4 or more"):
        ContentConsistency(channels_as_classes, top_k=4).update(sweep)
    with pytest.raises(ValueError, match="segmenter must give integers"):
        ContentConsistency(lambda images: images).update(sweep)
    with pytest.raises(ValueError, match="at least two settings"):
        ContentConsistency(channels_as_classes).update(sweep[:, :1])
