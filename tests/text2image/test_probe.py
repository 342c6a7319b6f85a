"""The probe's numbers for pictures whose answers are known, and what it asks of a generator."""

import copy
import json

import pytest
import torch

from dofsuite.data import ShardData
from dofsuite.errors import UserError
from dofsuite.text2image.probe import FOCUS_SHARES, NAMED_COLOURS, ColourSegmenter, Probe, ProbeRun
from tests.text2image.tiny import tiny_module


@pytest.fixture(scope="module")
def prompts():
    data = ShardData({"deep": "embedded:deep"}, "embedded:prompts", val_batch_size=3, size_px=32)
    data.setup("validate")
    return next(iter(data.val_dataloader()))


@pytest.fixture(scope="module")
def module():
    module = tiny_module()
    module.configure_model()
    return module.eval()


def test_every_named_colour_is_recognised_in_light_and_in_shade():
    colours = torch.tensor(list(NAMED_COLOURS.values()))
    for light in (1.0, 0.5):
        picture = (light * colours).T[None, :, :, None]
        assert ColourSegmenter()(picture)[0, 0, :, 0].tolist() == list(range(len(NAMED_COLOURS)))


def test_the_likeliest_names_come_first():
    ids = ColourSegmenter(top_k=3)(torch.tensor([0.95, 0.14, 0.10])[None, :, None, None])
    assert ids.shape == (1, 3, 1, 1)
    assert ids[0, 0].item() == list(NAMED_COLOURS).index("red")


def test_a_scene_is_generated_once_for_all_apertures_and_a_wider_one_is_never_sharper(module, prompts):
    calls = []
    handles = [
        getattr(module.networks, name).register_forward_hook(lambda *_, name=name: calls.append(name))
        for name in ("teacher", "generator")
    ]
    run = ProbeRun(Probe(scenes=3), module)
    sweep = run.aperture_sweep(prompts)
    for handle in handles:
        handle.remove()
    assert calls == ["teacher"] * 4  # the four steps of one generation; the generator has not had a turn
    contrast = torch.stack([picture.var(dim=(1, 2, 3)) for picture in sweep])
    assert (contrast[1:] >= contrast[:-1] - 1e-6).all()


def test_a_model_that_diverged_is_refused_in_one_sentence(module, prompts):
    spoilt = copy.deepcopy(module)
    torch.nn.init.constant_(spoilt.networks.teacher.conv_out.bias, float("nan"))
    with pytest.raises(UserError, match=r"no longer finite: lower the learning rate"):
        ProbeRun(Probe(scenes=3), spoilt).update(prompts)


def test_the_focus_sweep_focuses_at_shares_of_the_depths(module, prompts):
    run = ProbeRun(Probe(scenes=3), module)
    pictures = run.focus_sweep(prompts)
    assert len(pictures) == len(FOCUS_SHARES)
    assert not torch.equal(pictures[0], pictures[-1])


@pytest.mark.filterwarnings("ignore:BlurMonotonicity", "ignore:ContentConsistency")
def test_numbers_and_sheets_are_written_for_no_more_scenes_than_asked(module, prompts, tmp_path):
    run = ProbeRun(Probe(scenes=2, sheet_scenes=1), module)
    run.update(prompts)
    run.update(prompts)
    assert run.scenes_left == 0
    values = run.values()
    run.write(tmp_path, 5, values)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["step"] == 5
    assert record["probe"] == values
    assert all(0 <= value <= 1 for value in values.values())
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"apertures-00000005.png", "focus-00000005.png"}
    assert run.captions == prompts.caption[:1]
