"""What a run leaves: stock diffusers reads it, and it is what was trained."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from dofsuite.backbones import Metric3D, PretrainedFlux, SmallDepth, SmallFlux, SmallSdxl
from dofsuite.backbones.descriptors import describe, rebuild
from dofsuite.backbones.sdxl.prediction_type import save_scheduler
from dofsuite.backbones.sdxl.unet_calls import predict
from dofsuite.errors import UserError
from dofsuite.text2image import Exif, ExifEmbedder, FocusPredictor
from dofsuite.text2image.dmd2.stages import Stages
from dofsuite.text2image.export import save_unet
from dofsuite.text2image.networks import FocusPredictorConfig, Networks
from dofsuite.text2image.settings import Text2ImageSettings
from dofsuite.training.sharding.fsdp import gather_to_cpu
from tests.text2image.tiny_run import tiny_module, train, untrained_depth

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with everything: teacher stage, EMA, EXIF for generator and critic."""
    root = tmp_path_factory.mktemp("runs")
    module = tiny_module(
        untrained_depth(root), exif_conditioned=("generator", "critic"), ema_decay=0.5
    )
    with torch.no_grad():  # a new embedding changes nothing; this one does
        module.networks.teacher.time_embedding.exif.last.weight.normal_(std=0.05)
    module = train(module)
    module.export(root / "run" / "export")
    return module, root / "run" / "export"


@pytest.fixture(scope="module")
def noisy(runs):
    torch.manual_seed(3)
    prompt = runs[0].networks.prompts.encode(["a red ball", "a blue box"])
    return torch.randn(2, 12, 16, 16), torch.tensor([999, 249]), prompt


@torch.no_grad()
def predicted(unet, noisy, exif=None):
    x_t, t, prompt = noisy
    return predict(unet, x_t, t, prompt, None if exif is None else exif.stacked(), 2)


def test_stock_diffusers_predicts_what_the_ema_does(runs, noisy):
    module, folder = runs
    stock = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    assert torch.equal(predicted(stock, noisy), predicted(module.ema_generator.module, noisy))
    assert not torch.allclose(
        predicted(stock, noisy), predicted(module.networks.generator, noisy), atol=1e-3
    )


def test_the_exif_embedder_is_saved_apart_and_adds_what_it_did(runs, noisy):
    module, folder = runs
    stock = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    embedder = ExifEmbedder.from_pretrained(folder / "exif_embedder", low_cpu_mem_usage=False)
    exif = Exif.checked([1.8, 11.0], 50)
    # By hand: a time embedding with the EXIF's vector added is what a UNet adds everything to.
    stock.time_embedding.register_forward_hook(
        lambda module, args, output: output + embedder(exif.stacked())
    )
    with_exif = predicted(stock, noisy)
    assert torch.allclose(with_exif, predicted(module.ema_generator.module, noisy, exif), atol=1e-5)
    assert not torch.allclose(with_exif, predicted(module.ema_generator.module, noisy), atol=1e-3)


def test_the_module_goes_on_as_it_was(runs, noisy):
    module, _ = runs
    before = predicted(module.ema_generator.module, noisy, Exif.checked(2.0, [50, 85]))
    state = {name: value.clone() for name, value in module.state_dict().items()}
    module.export(module_folder := runs[1].parent / "again")
    assert (module_folder / "text2image.json").is_file()
    assert torch.equal(
        predicted(module.ema_generator.module, noisy, Exif.checked(2.0, [50, 85])), before
    )
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_another_run_starts_from_the_trained_teacher(runs, noisy):
    module, folder = runs
    unet = SmallSdxl(weights=str(folder / "teacher")).load().unet
    assert torch.equal(predicted(unet, noisy), predicted(module.networks.teacher, noisy))
    assert not torch.allclose(
        predicted(unet, noisy),
        predicted(SmallSdxl(downscale=2, channels=(32, 32)).load().unet, noisy),
    )


def test_another_run_starts_from_what_the_teacher_learned_of_exif(tmp_path):
    def networks(backbone, *conditioned):
        return Networks(
            backbone,
            SmallDepth(),
            None,
            FocusPredictorConfig(),
            conditioned,
            32,
            False,
            None,
            False,
        )

    trained = networks(SmallSdxl(downscale=2, channels=(32, 32)), "teacher")
    with torch.no_grad():
        trained.teacher.time_embedding.exif.last.weight.normal_(std=0.05)
    noisy = torch.randn(2, 12, 16, 16), torch.tensor([999, 249]), trained.prompts.encode(["a", "b"])
    exif = Exif.checked(2.0, [50, 85])
    expected = predicted(trained.teacher, noisy, exif)
    save_unet(trained.teacher, True, torch.float32, tmp_path)
    save_scheduler("v_prediction", tmp_path)
    trained.codec.save_pretrained(tmp_path / "codec")

    # With EXIF it is the same; without, half of what it learned would be left out
    saved = SmallSdxl(weights=str(tmp_path))
    assert torch.equal(predicted(networks(saved, "teacher").teacher, noisy, exif), expected)
    with pytest.raises(UserError, match=r"^model\.exif_conditioned: .* name teacher there too"):
        networks(saved, "critic")


def test_the_focus_predictor_predicts_as_it_did(runs):
    module, folder = runs
    image, depth = torch.rand(2, 3, 32, 32), 1 + 5 * torch.rand(2, 1, 32, 32)
    again = FocusPredictor.from_pretrained(
        folder / "focus_predictor", low_cpu_mem_usage=False
    ).eval()
    with torch.no_grad():
        for ours, theirs in zip(
            module.networks.focus(image, depth), again(image, depth), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_files_are_safetensors_plain_json_and_a_card(runs):
    _, folder = runs
    schedulers = {f"{place}scheduler/scheduler_config.json" for place in ("", "teacher/")}
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    parts = ("unet", "exif_embedder", "codec", "focus_predictor", "teacher/unet", "teacher/codec")
    weights = {f"{part}/{name}" for part in parts for name in ("config.json", WEIGHTS)}
    assert names == weights | schedulers | {"text2image.json", "README.md"}
    settings = json.loads((folder / "text2image.json").read_text())
    assert settings["few_steps"] == [999, 749, 499, 249]
    assert settings["lens"]["method"] == "gather"
    assert settings["exif_conditioned"] == ["generator", "critic"]
    assert [settings[name]["class"] for name in ("backbone", "depth", "saliency")] == [
        "SmallSdxl",
        "SmallDepth",
        "SmallSaliency",
    ]


def test_weights_keep_the_names_of_stock_sdxl(runs):
    names = set(load_file(runs[1] / "unet" / WEIGHTS))
    assert names == set(SmallSdxl(downscale=2, channels=(32, 32)).load().unet.state_dict())


def test_a_generator_before_its_first_step_is_exported_as_what_it_begins_as(tmp_path, noisy):
    module = train(tiny_module(untrained_depth(tmp_path), lens=None, ema_decay=0.5), steps=1)
    module.export(tmp_path / "export")
    stock = UNet2DConditionModel.from_pretrained(
        tmp_path / "export" / "unet", low_cpu_mem_usage=False
    )
    assert torch.equal(predicted(stock, noisy), predicted(module.networks.teacher, noisy))
    assert not torch.allclose(
        predicted(stock, noisy), predicted(module.networks.generator, noisy), atol=1e-3
    )


def test_without_lens_teacher_and_exif_nothing_of_theirs_is_written(tmp_path):
    tiny_module(untrained_depth(tmp_path), lens=None, stages=Stages()).export(tmp_path / "export")
    names = {path.name for path in (tmp_path / "export").iterdir()}
    assert names == {"unet", "scheduler", "codec", "text2image.json", "README.md"}
    assert json.loads((tmp_path / "export" / "text2image.json").read_text())["lens"] is None


def test_a_copy_in_16_bit_leaves_the_original_and_counts_as_half():
    unet = SmallSdxl(downscale=2, channels=(32, 32)).load().unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    copied = gather_to_cpu(unet, unet, torch.bfloat16, keep=True)
    assert {value.dtype for value in copied.state_dict().values()} == {torch.bfloat16}
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert not {p.data_ptr() for p in unet.parameters()} & {
        p.data_ptr() for p in copied.parameters()
    }


@pytest.mark.parametrize(
    "descriptor", [SmallSdxl(seed=3), Metric3D(), PretrainedFlux("x"), SmallFlux(heads=2)]
)
def test_a_descriptor_is_described_and_rebuilt_through_json(descriptor):
    again = rebuild(json.loads(json.dumps(describe(descriptor))))
    assert type(again) is type(descriptor)
    assert vars(again) == vars(descriptor)


def test_an_unknown_network_and_a_folder_without_a_generator_are_named(tmp_path):
    with pytest.raises(UserError, match="Telescope: class"):
        rebuild({"class": "Telescope", "arguments": {}})
    with pytest.raises(UserError, match=r"text2image\.json is missing"):
        Text2ImageSettings.find(tmp_path)
