"""FLUX.2 klein as the base: it trains, resumes, exports, and stock diffusers runs the export."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from PIL import Image

from dofsuite.backbones import Lora, PretrainedKlein, SmallKlein
from dofsuite.errors import UserError
from dofsuite.fit import main
from dofsuite.refocus import Refocus, RefocusPipeline
from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of
from tests.real_layouts import save_klein
from tests.refocus.tiny import EXPERIMENT
from tests.test_examples import example

POINT, LEVEL = (0.3, 0.6), 12.0


def fit(folder: str, steps: int) -> dict:
    """Train, without validation, and return the last checkpoint."""
    words = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
    assert main(["x.yaml", "--trainer.default_root_dir", folder, *words]) == 0
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(Path(folder))[0])


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_weights_and_its_export_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["model"]["init_args"]["backbone"] = {"class_path": "dofsuite.backbones.SmallKlein"}
    Path("x.yaml").write_text(yaml.safe_dump(experiment))
    full = fit("uninterrupted", 3)
    fit("stopped", 2)
    stopped = fit("stopped", 3)
    for name in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(stopped[name], full[name], rtol=0, atol=0)
    trained = full["state_dict"]
    assert all("lora_" in name or name.startswith("camera.") for name in trained)
    assert all(trained[name].abs().sum() > 0 for name in trained if "lora_B" in name)
    pipe = RefocusPipeline.from_export("stopped")
    assert torch.equal(
        pipe.camera.state_dict()["projector.weight"], trained["camera.projector.weight"]
    )
    assert "pooled_text" not in pipe.camera.state_dict()


@pytest.fixture(scope="module", params=["full", "cached"])
def exported(tmp_path_factory, request):
    """A folder of klein's layout in float32, and an adapter of random weights on it."""
    folder = tmp_path_factory.mktemp("klein")
    save_klein(folder / "base", torch.float32)
    module = Refocus(
        PretrainedKlein(str(folder / "base"), dtype="float32"),
        Lora(rank=4),
        num_inference_steps=3,
        conditions=request.param,
    )
    module.configure_model()
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    module.trained_size_px = 64
    module.export(folder / "export")
    return folder


@pytest.fixture
def pictures():
    """A photograph and its depth, 64 px square."""
    random = np.random.default_rng(0)
    photo = Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8))
    depth = np.tile(np.arange(0, 256, 255 / 63).round().astype(np.uint8), (64, 1))
    return photo, Image.fromarray(depth)


def our_answer(pipe: RefocusPipeline, photo, depth):
    disparity = torch.from_numpy(np.array(depth)).float()[None, None] / 255
    seed = torch.Generator().manual_seed(5)
    return pipe(photo, POINT, LEVEL, disparity, generator=seed, output_type="np").images[0]


def stock_answer(folder: Path, photo, depth, record, preprocess=None):
    """The image of `examples/stock_klein.py`, and what its transformer returned, by a hook."""
    stock_klein = example("stock_klein")
    load = stock_klein.Flux2Transformer2DModel.from_pretrained

    def recorded(*words, **options):
        transformer = load(*words, **options)
        transformer.register_forward_hook(record)
        return transformer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock_klein.Flux2Transformer2DModel, "from_pretrained", recorded)
        if preprocess is not None:
            patch.setattr(Flux2ImageProcessor, "preprocess", preprocess)
        return stock_klein.refocus(
            *(folder / "export", str(folder / "base"), photo, depth, POINT, LEVEL),
            seed=5,
            dtype=torch.float32,
            output_type="np",
        )


def test_stock_diffusers_klein_pipeline_gives_the_same_velocities_and_image(exported, pictures):
    """Its own packing, ids, references, schedule, VAE and LoRA loader. From pixels in one layout in
    memory, bit for bit on a CPU: torch's convolutions round otherwise with channels last.
    """
    photo, depth = pictures
    velocities = []

    def record(_, __, output):
        velocities.append(output[0][:, :16])  # the noise's; with cached conditions, all

    # Ours, stock, and stock with contiguous pixels
    pipe = RefocusPipeline.from_export(exported / "export")
    pipe.transformer.register_forward_hook(record)
    ours = our_answer(pipe, photo, depth)
    preprocess = Flux2ImageProcessor.preprocess
    stock = stock_answer(exported, photo, depth, record)
    contiguous = stock_answer(
        *(exported, photo, depth, record),
        lambda *words, **options: preprocess(*words, **options).contiguous(),
    )
    # Three steps each
    expected, as_stock, as_contiguous = torch.stack(velocities).unflatten(0, (3, 3))
    error = float((as_stock - expected).abs().max())
    print(f"velocities differ by {error:.1e}, images by {np.abs(ours - stock).max():.1e}")
    assert expected.std() > 0.1
    assert error <= 1e-5
    assert np.abs(ours - stock).max() < 1e-5
    assert torch.equal(as_contiguous, expected)
    np.testing.assert_array_equal(ours, contiguous)


def test_on_the_few_step_model_it_has_that_one_s_steps_and_the_stock_schedule(exported, pictures):
    """Klein 4B samples in 4 steps, shifted by the picture's size, as Flux2KleinPipeline does."""
    base = str(exported / "base")
    pipe = RefocusPipeline.from_export(exported / "export", base=base, distilled=True)
    assert pipe.config.num_inference_steps == 4
    ours = our_answer(pipe, *pictures)
    stock_klein = example("stock_klein")
    scheduler = stock_klein.FlowMatchEulerDiscreteScheduler
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            stock_klein,
            "FlowMatchEulerDiscreteScheduler",
            lambda shift: scheduler(use_dynamic_shifting=True),
        )
        stock = stock_klein.refocus(
            *(exported / "export", base, *pictures, POINT, LEVEL),
            steps=4,
            seed=5,
            dtype=torch.float32,
            output_type="np",
        )
    assert np.abs(ours - stock).max() < 1e-5
    plain = RefocusPipeline.from_export(exported / "export", base=base)
    plain.register_to_config(num_inference_steps=4)
    assert np.abs(our_answer(plain, *pictures) - ours).max() > 1e-3


def test_a_base_without_a_few_step_model_says_so(tmp_path):
    module = Refocus(SmallKlein(), Lora(rank=2))
    module.configure_model()
    module.trained_size_px = 32
    module.export(tmp_path)
    with pytest.raises(UserError, match="--distilled: no few-step model is known of the base of"):
        RefocusPipeline.from_export(tmp_path, distilled=True)
