"""The probe's numbers for images whose scores are known, and which generator it samples from."""

import copy
import io
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
)

from dofsuite.data import ShardData
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter
from dofsuite.errors import UserError
from dofsuite.text2image import Stages, Training
from dofsuite.text2image.probe import (
    FOCUS_SHARES,
    SCORE_TIMES,
    Probe,
    ProbeRun,
    load_segmenter,
)
from tests.text2image.tiny import tiny_module


@pytest.fixture(scope="module")
def prompts():
    data = ShardData({"deep": "synthetic:deep"}, "synthetic:prompts", val_batch_size=3, size_px=32)
    data.setup("validate")
    return next(iter(data.val_dataloader()))


@pytest.fixture(scope="module")
def module():
    module = tiny_module()
    module.configure_model()
    return module.eval()


def test_a_scene_is_generated_once_for_all_apertures_and_a_wider_one_is_never_sharper(
    module, prompts
):
    calls = []
    handles = [
        getattr(module.networks, name).register_forward_hook(
            lambda *_, name=name: calls.append(name)
        )
        for name in ("teacher", "generator")
    ]
    run = ProbeRun(Probe(scenes=3), module.scene_sampler())
    sweep = run.aperture_sweep(prompts, run.sampler.scene(prompts))
    for handle in handles:
        handle.remove()
    assert (
        calls == ["teacher"] * 4
    )  # the four steps of one generation; the generator has had no step
    contrast = torch.stack([image.var(dim=(1, 2, 3)) for image in sweep])
    assert (contrast[1:] >= contrast[:-1] - 1e-6).all()


def test_a_model_that_diverged_is_one_sentence(module, prompts):
    diverged = copy.deepcopy(module)
    torch.nn.init.constant_(diverged.networks.teacher.conv_out.bias, float("nan"))
    with pytest.raises(UserError, match=r"no longer finite: lower the learning rate"):
        ProbeRun(Probe(scenes=3), diverged.scene_sampler()).update(prompts)


def test_the_focus_sweep_focuses_at_shares_of_the_depths(module, prompts):
    run = ProbeRun(Probe(scenes=3), module.scene_sampler())
    images = run.focus_sweep(prompts, run.sampler.scene(prompts))
    assert len(images) == len(FOCUS_SHARES)
    assert not torch.equal(images[0], images[-1])


@pytest.mark.filterwarnings("ignore:BlurMonotonicity", "ignore:ContentConsistency")
def test_numbers_and_sheets_are_written_for_no_more_scenes_than_configured(
    module, prompts, tmp_path
):
    run = ProbeRun(Probe(scenes=2, sheet_scenes=1), module.scene_sampler(), ColorSegmenter())
    run.update(prompts)
    run.update(prompts)
    assert run.scenes_left == 0
    values = run.values()
    run.write(tmp_path, 5, values)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["step"] == 5
    assert record["scenes"] == 2
    assert record["probe"] == values
    assert values.keys() == {
        "blur_monotonicity_ac",
        "blur_monotonicity_paper",
        "content_consistency",
        "ties_ac",
    }
    assert all(0 <= value <= 1 for value in values.values())
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {
        "apertures-00000005.png",
        "focus-00000005.png",
    }
    assert run.captions == prompts.caption[:1]


@pytest.mark.filterwarnings("ignore:BlurMonotonicity")
def test_the_record_counts_the_scenes_that_were_sampled(module, prompts, tmp_path):
    run = ProbeRun(Probe(scenes=25), module.scene_sampler())
    run.update(prompts)
    run.write(tmp_path, 0, run.values())
    assert json.loads((tmp_path / "metrics.json").read_text())["scenes"] == len(prompts.key) == 3
    sampler = module.scene_sampler()
    shares = [ProbeRun(Probe(scenes=25), sampler, None, 64, rank).scenes_left for rank in range(64)]
    assert sum(shares) == 25


def test_a_probe_of_no_scenes_is_refused():
    with pytest.raises(ValueError, match="scenes: at least one is needed, not 0"):
        Probe(scenes=0)


# --- contents ---


@pytest.mark.filterwarnings(
    "ignore:BlurMonotonicity", "ignore:ContentConsistency", "ignore:LocalRuntime"
)
def test_contents_are_told_apart_by_what_is_named_and_by_nothing_else(module, prompts, tmp_path):
    assert load_segmenter(None) is None
    assert isinstance(load_segmenter("colors"), ColorSegmenter)
    with pytest.raises(
        UserError, match=r"^segmenter: colours is called colors now: write colors\.$"
    ):
        Probe(segmenter="colours")
    unmeasured = ProbeRun(Probe(scenes=1), module.scene_sampler())
    unmeasured.update(prompts)
    assert "content_consistency" not in unmeasured.values()
    shape = {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    network = SegformerForSemanticSegmentation(
        SegformerConfig(num_labels=40, decoder_hidden_size=16, **shape)
    ).eval()
    network.save_pretrained(tmp_path)
    SegformerImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    sampler = module.scene_sampler()
    measured = ProbeRun(Probe(scenes=1), sampler, load_segmenter(str(tmp_path)))
    measured.update(prompts)
    likeliest = []
    mean, deviation = (
        torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        for image in measured.aperture_sweep(prompts, sampler.scene(prompts)):
            logits = network(pixel_values=((image[:1] - mean) / deviation)).logits
            likeliest.append(
                torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear")
                .topk(3, dim=1)
                .indices
            )
    pairs = list(itertools.combinations(likeliest, 2))
    agreeing = sum(
        (a[:, :, None] == b[:, None]).any(1).any(1).double().mean().item() for a, b in pairs
    )
    assert measured.values()["content_consistency"] == pytest.approx(
        agreeing / len(pairs), abs=2e-3
    )


def test_a_segmenter_that_cannot_be_had_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        tiny_module(probe=Probe(segmenter=str(tmp_path)))


def test_the_segmenter_is_no_part_of_the_module(prompts):
    module = tiny_module(probe=Probe(segmenter="colors"))
    assert (
        "content_consistency"
        in ProbeRun(module.probe, module.scene_sampler(), *module._segmenter).metrics
    )
    assert not any("segmenter" in name for name, _ in module.named_modules())


# --- which generator ---


def test_without_a_camera_a_prompt_is_one_image_of_which_nothing_is_measured(prompts, tmp_path):
    module = tiny_module(lens=None, stages=Stages(deep=0))
    calls = []
    module.networks.generator.register_forward_hook(lambda *_: calls.append("generator"))
    run = ProbeRun(Probe(scenes=3), module.scene_sampler(), ColorSegmenter())
    run.update(prompts)
    assert len(calls) == 4  # one generation
    assert run.values() == {}
    assert [len(row) for row in run.apertures] == [1, 1, 1]
    run.write(tmp_path, 5, {})
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record == {"step": 5, "probe": {}, "f_numbers": [], "scenes": 3}
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {
        "apertures-00000005.png",
        "scores-00000005.png",
    }


@pytest.mark.filterwarnings("ignore:BlurMonotonicity")
def test_both_scores_of_a_sample_and_of_its_photograph_are_shown_and_logged(prompts, tmp_path):
    module = tiny_module(stages=Stages(deep=0), guidance_scale=1.0)
    run = ProbeRun(Probe(scenes=3, sheet_scenes=2), module.scene_sampler())
    calls = []
    module.networks.generator.register_forward_hook(lambda *_: calls.append("generator"))
    run.update(prompts)
    assert len(calls) == 4  # one generation serves the sweeps and the scores
    assert [len(row) for row in run.scores] == [1 + 2 * len(SCORE_TIMES)] * 4
    assert run.score_titles[2:] == [f"{text} (through the lens)" for text in prompts.caption[:2]]
    # Without guidance teacher and fake score are still one network, so their predictions agree.
    for x, *pairs in run.scores:
        for real, fake in zip(pairs[::2], pairs[1::2], strict=True):
            torch.testing.assert_close(real, fake)
            assert not torch.equal(real, x)

    # TensorBoard gets the sheets as they were written.
    logger = TensorBoardLogger(tmp_path, name="tb", version="")
    run.write(tmp_path, 6, {}, [logger])
    logger.finalize("success")  # its writer has a thread of its own
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert events.Tags()["images"] == ["sheets/apertures", "sheets/focus", "sheets/scores"]
    logged = events.Images("sheets/scores")[0]
    with Image.open(tmp_path / "sheets" / "scores-00000006.png") as sheet:
        written = np.asarray(sheet)
    assert logged.step == 6
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(logged.encoded_image_string))), written)


def test_an_exif_conditioned_generator_makes_an_image_for_each_aperture(prompts):
    module = tiny_module(lens=None, exif_conditioned=("generator",), stages=Stages(deep=0))
    run = ProbeRun(Probe(scenes=3), module.scene_sampler())
    assert len(run.aperture_sweep(prompts, None)) == 8


def test_the_ema_is_probed_as_it_is_exported(prompts):
    module = tiny_module(stages=Stages(deep=0), training=Training(ema_decay=0.5))
    calls = []
    for name, network in (
        ("ema", module.ema_generator.module),
        ("generator", module.networks.generator),
    ):
        network.register_forward_hook(lambda *_, name=name: calls.append(name))
    module.scene_sampler().scene(prompts)
    assert set(calls) == {"generator"}  # of which the EMA, of no steps yet, is a copy
    module.ema_generator.update_parameters(module.networks.generator)
    calls.clear()
    module.scene_sampler().scene(prompts)
    assert set(calls) == {"ema"}
    assert module.exported_networks().generator is module.ema_generator.module
