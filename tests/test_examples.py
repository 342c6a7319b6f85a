"""The examples run, and answer as dofsuite does."""

import importlib.util
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from dofsuite.backbones import Backbone, BackboneModules, Lora, PretrainedFlux
from dofsuite.backbones.codec import VaeCodec
from dofsuite.backbones.descriptors import describe
from dofsuite.refocus import CameraEmbedder, RefocusPipeline
from dofsuite.refocus.export import export_adapter
from dofsuite.refocus.settings import RefocusSettings
from tests.real_layouts import save_flux

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LocalFlux(Backbone):
    """A FLUX folder without text encoder, which an export does not need."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> BackboneModules:
        transformer = FluxTransformer2DModel.from_pretrained(self.path, subfolder="transformer")
        vae = AutoencoderKL.from_pretrained(self.path, subfolder="vae")
        return BackboneModules(transformer, VaeCodec(vae), torch.zeros(24))


@pytest.fixture(params=[0, 3], ids=["camera token alone", "with the empty prompt's tokens"])
def base_and_export(tmp_path, request):
    """A tiny guidance-distilled FLUX in diffusers layout, and an adapter of random weights."""
    save_flux(tmp_path / "base")
    transformer = FluxTransformer2DModel.from_pretrained(tmp_path / "base", subfolder="transformer")
    # The adapter, by dofsuite's own export
    Lora(rank=4).attach(transformer)
    camera = CameraEmbedder(dim=32, pooled_dim=24, num_text_tokens=request.param)
    for parameter in (
        *(p for p in transformer.parameters() if p.requires_grad),
        *camera.buffers(),
    ):
        torch.nn.init.normal_(parameter, std=0.3)
    settings = RefocusSettings(
        backbone=describe(PretrainedFlux(str(tmp_path / "base"))),
        guidance_embed=1.5,
        position_ids="kontext",
        num_inference_steps=3,
        time_shift=2.0,
        size_px=64,
    )
    export_adapter(tmp_path / "export", transformer, camera, settings)
    return tmp_path / "base", tmp_path / "export"


def test_stock_diffusers_refocuses_as_the_pipeline_does(base_and_export):
    base, export = base_and_export
    pipe = RefocusPipeline.from_export(export, LocalFlux(base))
    generator = torch.Generator().manual_seed(1)
    photo = torch.rand(1, 3, 40, 60, generator=generator)
    depth = torch.rand(1, 1, 40, 60, generator=generator)
    camera = ((0.3, 0.7), 9.0)
    (ours,) = pipe(
        photo,
        *camera,
        depth,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
        return_dict=False,
    )
    stock = example("stock_diffusers").refocus(
        export, str(base), photo, depth, *camera, seed=5, dtype=torch.float32
    )
    assert stock.shape == ours.shape == (1, 3, 48, 80)
    assert torch.equal(stock, ours)
    assert ours.std() > 0.01


def test_the_stock_example_overwrites_nothing(tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"a photograph")
    words = ["export", str(photo), "depth.png", "0.5", "0.5", "5", str(photo)]
    with pytest.raises(SystemExit, match="it exists"):
        example("stock_diffusers").main(words)
    assert photo.read_bytes() == b"a photograph"


def test_the_stock_example_does_not_need_dofsuite():
    source = (EXAMPLES / "stock_diffusers.py").read_text()
    assert not any(
        line.startswith(("import dofsuite", "from dofsuite")) for line in source.split("\n")
    )
