"""Scores of sweeps against NumPy and SciPy; KID against a loop over the kernel, FID against SciPy's
matrix root.
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from dofsuite.evaluate import main
from dofsuite.evaluation.tables import number_of
from dofsuite.evaluation.text2image.features import ReferenceFeatures, load_extractor
from dofsuite.evaluation.text2image.images import read_image_at, write_images
from dofsuite.evaluation.text2image.scores import COLUMNS, Scorer, relative_energy, scores_of
from dofsuite.images import quantize_8bit
from dofsuite.metrics.consistency import Agreement
from tests.backbones.perception.test_segmentation import save_segformer
from tests.evaluation.text2image.tiny_text2image import BASELINES, make_runs, tiny_method

CPU = torch.device("cpu")


def sweep(*contrasts: float, seed: int = 0) -> torch.Tensor:
    noise = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(seed)) - 0.5
    return quantize_8bit(torch.stack([0.5 + contrast * noise for contrast in contrasts]))


def mean_color(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(-2, -1))


class ByBrightness:
    """Forty classes, the likeliest first."""

    num_classes = 40

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        likeliest = (images.mean(dim=1, keepdim=True) * 40).long().clamp(1, 38)
        return torch.cat([likeliest, likeliest - 1, likeliest + 1], dim=1)


def scorer(**changes) -> Scorer:
    options = {
        "segmenter": ByBrightness(),
        "agreement": Agreement(3),
        "embedder": mean_color,
        "extract": lambda images: mean_color(images).double(),
        "compared": (0, 2),
        "device": CPU,
    }
    return Scorer(**{**options, **changes})


def scored(rows, **more) -> dict[str, float | None]:
    return dict(zip(COLUMNS, map(number_of, scores_of(rows, None, 0, **more)), strict=True))


def test_a_method_s_scores_are_means_over_all_its_pairs_and_pixels():
    sweeps = [sweep(0.2, 0.4, 0.4), sweep(0.3, 0.2, 0.9, seed=1)]
    values = scored([scorer().row(each) for each in sweeps])
    assert values["BM ac"] == pytest.approx(2 / 4)  # up, tie; down, up
    assert values["ties ac"] == pytest.approx(1 / 4)
    images = [each.numpy() for each in sweeps]
    energy = [[(np.abs(np.fft.fft2(x)) ** 2).sum() for x in each] for each in images]
    assert values["BM paper"] == np.mean([b > a + 1e-9 for e in energy for a, b in pairwise(e)])
    meeting, cosines = [], []
    for each in images:
        classes = np.clip((each.astype(np.float32).mean(axis=1) * 40).astype(int), 1, 38)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            meeting.append(
                np.abs(classes[i] - classes[j]) <= 2
            )  # sets of three neighbours meet within two
        colors = each.mean(axis=(-2, -1))
        cosines += [
            c @ colors[-1] / np.linalg.norm(c) / np.linalg.norm(colors[-1]) for c in colors[:-1]
        ]
    assert values["CC"] == pytest.approx(
        np.mean(meeting), abs=0.005
    )  # a class's edge may round either way
    assert values["CLIP-I"] == pytest.approx(np.mean(cosines), abs=1e-6)


def test_energies_are_relative_to_the_last_aperture():
    rows = [scorer().row(sweep(0.25, 0.5, 1.0)), scorer().row(sweep(0.25, 0.5, 1.0, seed=1))]
    assert list(map(number_of, relative_energy(rows))) == pytest.approx(
        [1 / 16, 1 / 4, 1], rel=0.02
    )  # 8-bit images


def test_what_is_not_measured_is_nothing_and_never_zero():
    rows = [scorer(segmenter=None, embedder=None, extract=None).row(sweep(0.2, 0.4, 0.6))]
    values = scored(rows)
    assert [values[name] for name in ("CC", "CLIP-I", "KID", "FID")] == [None] * 4
    json.dumps(rows)


def test_flat_images_have_no_relative_energy_and_tie():
    rows = [scorer().row(torch.full((3, 3, 8, 8), 0.5))]
    assert relative_energy(rows) == [None, None, None]
    assert scored(rows)["ties ac"] == 1


def test_kid_and_fid_are_those_of_the_features():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(60, 5)), draw.normal(size=(60, 5)) * 1.3 + 0.4
    photographs = ReferenceFeatures.from_raw(torch.tensor(real), "inception", len(fake))
    assert photographs.directions is None
    kid, fid = photographs.distances(torch.tensor(fake), seed=0)

    def kernel(a, b):
        return (a @ b / 5 + 1) ** 3

    n = len(real)  # one subset of all: the unbiased estimate by a loop
    among = [
        sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / n / (n - 1)
        for x in (real, fake)
    ]
    between = sum(kernel(a, b) for a in real for b in fake) / n / n
    assert kid == pytest.approx(among[0] + among[1] - 2 * between, rel=1e-9)
    c_real, c_fake = np.cov(real.T), np.cov(fake.T)
    root = scipy.linalg.sqrtm(c_real @ c_fake).real
    expected = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(c_real + c_fake - 2 * root)
    assert fid == pytest.approx(expected, rel=1e-6)


def test_kid_s_subsets_follow_from_the_seed_and_leave_torch_s_generator_alone():
    draw = torch.Generator().manual_seed(0)
    photographs = ReferenceFeatures.from_raw(
        torch.randn(50, 4, generator=draw, dtype=torch.float64), "inception", 20
    )
    fake = torch.randn(30, 4, generator=draw, dtype=torch.float64)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert photographs.distances(fake, 0) == photographs.distances(fake, 0)
    assert photographs.distances(fake, 0)[0] != photographs.distances(fake, 1)[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_small_network_s_directions_are_whitened():
    draw = torch.Generator().manual_seed(0)
    raw = torch.randn(800, 60, generator=draw, dtype=torch.float64) @ torch.diag(
        torch.linspace(0.1, 5, 60).double()
    )
    photographs = ReferenceFeatures.from_raw(raw, "small", 100)
    assert photographs.features.shape == (800, 48)
    covariance = torch.cov(photographs.features.T, correction=0)
    assert torch.allclose(covariance, torch.eye(48, dtype=torch.float64), atol=1e-6)
    same, other = photographs.distances(raw, 0), photographs.distances(raw + 3, 0)
    assert same[1] == pytest.approx(0, abs=1e-6)
    assert other[0] > same[0]
    assert other[1] > 1


def test_what_is_written_is_what_is_scored(tmp_path):
    fake = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    rounded = quantize_8bit(fake)
    write_images(tmp_path, [1.8, 22.0], rounded)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f1.8.png", "f22.png"]
    assert torch.equal(read_image_at(tmp_path, 1.8), rounded[0])
    assert torch.equal(read_image_at(tmp_path, 22.0), rounded[1])


def test_a_feature_network_by_choice():
    assert load_extractor("none", None, CPU) is None
    assert load_extractor("small", None, CPU)(torch.rand(2, 3, 32, 32)).shape == (2, 192)
    with pytest.raises(Exception, match="--clip"):
        load_extractor("clip", None, CPU)


def test_a_table_with_photographs_a_segmenter_and_a_clip(tmp_path):
    runs = make_runs(tmp_path / "runs")
    methods = [
        tiny_method(file, runs, tmp_path / "m")
        for file in BASELINES
        if file.stem in ("ours", "8_deep_taf")
    ]
    torch.manual_seed(0)
    save_segformer(tmp_path / "segformer")
    clip = CLIPVisionConfig(
        image_size=32,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=8,
    )
    CLIPVisionModelWithProjection(clip).save_pretrained(tmp_path / "clip")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "clip")
    words = ["text2image", *map(str, methods), "--prompts", "synthetic:prompts", "--count", "3"]
    words += [
        "--photographs",
        "synthetic:prompts",
        "--compared",
        "1.8",
        "2.8",
        "--features",
        "small",
    ]
    words += [
        "--clip",
        str(tmp_path / "clip"),
        "--segmenter",
        str(tmp_path / "segformer"),
        "--top-k",
        "1",
    ]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for row in report["tables"][0]["rows"]:
        assert row["values"]["KID"] > 0
        assert row["values"]["FID"] > 0
        assert 0 < row["values"]["CC"] <= 1
        assert -1 <= row["values"]["CLIP-I"] <= 1
    facts = report["facts"]
    assert facts["KID"]["subset_size"] == 6  # three prompts at two apertures
    assert facts["photographs"] == "25 of synthetic:prompts"
    assert facts["features"].startswith("small, 1 numbers")
    assert facts["CLIP-I"] == str(tmp_path / "clip")
    assert facts["content consistency"].startswith(f"{tmp_path / 'segformer'}, top 1 of ")
