"""Code and pickles of others: none runs unless the user trusted it, whatever a folder holds."""

from __future__ import annotations

import inspect
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, DepthAnythingConfig, Dinov2Config, SegformerConfig

from dofsuite import backbones
from dofsuite.backbones import BiRefNet, Metric3D, PretrainedTextToImage, SmallDepth, SmallSdxl
from dofsuite.backbones.descriptors import describe, rebuild
from dofsuite.backbones.sdxl.adapters import DepthControl
from dofsuite.backbones.sdxl.unet_weights import read_unet_weights
from dofsuite.errors import UserError
from dofsuite.experiment.check import code_lines
from dofsuite.refocus.settings import RefocusSettings
from dofsuite.text2image import Text2Image
from dofsuite.text2image.settings import Text2ImageSettings
from tests.real_layouts import save_flux, save_sdxl

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FROM_A_FOLDER = sorted(
    name
    for name in dir(backbones)
    if inspect.isclass(getattr(backbones, name))
    and hasattr(getattr(backbones, name), "load")
    and {"path", "weights"} & inspect.signature(getattr(backbones, name).__init__).parameters.keys()
)
CONFIGS = {
    "DepthAnything": DepthAnythingConfig(backbone_config=Dinov2Config(hidden_size=32)),
    "ClipImages": CLIPVisionConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    "SemanticSegmenter": SegformerConfig(),
}
CONFIGS["RelativeDepth"] = CONFIGS["SmallDepth"] = CONFIGS["DepthAnything"]
CONFIGS["SmallSaliency"] = CONFIGS["DepthAnything"]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def load(name: str, folder: Path) -> None:
    """Load a network of `dofsuite.backbones` from a folder."""
    network = getattr(backbones, name)
    key = {"path", "weights"} & inspect.signature(network.__init__).parameters.keys()
    network(**{key.pop(): str(folder)}).load()


def save_hostile_code(folder: Path, marker: Path) -> Path:
    """A folder that names Python files beside it for everything that transformers and diffusers
    could load, in every part of a model.
    """
    code = f"open({str(marker)!r}, 'a').write(__name__)\n"
    code += "from transformers import PretrainedConfig as Cfg, PreTrainedModel as Net\n"
    code += "from diffusers import DiffusionPipeline as Pipe\n"
    autos = {
        f"AutoModel{task}": "evil.Net"
        for task in (
            *("", "ForImageSegmentation", "ForDepthEstimation", "ForImageTextToText"),
            *("ForSemanticSegmentation", "ForUniversalSegmentation"),
        )
    }
    autos |= {
        "AutoConfig": "evil.Cfg",
        "AutoProcessor": "evil.Net",
        "AutoImageProcessor": "evil.Net",
    }
    autos["AutoTokenizer"] = ["evil.Net", "evil.Net"]
    parts = (
        "",
        "unet",
        "vae",
        "transformer",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "codec",
    )
    for part in parts:
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "evil.py").write_text(code)
        for file in ("config", "preprocessor_config", "processor_config", "tokenizer_config"):
            values = {"model_type": "evil", "auto_map": autos, "_class_name": ["evil", "Net"]}
            (folder / part / f"{file}.json").write_text(json.dumps(values))
    index = {"_class_name": ["evil", "Pipe"], "unet": ["evil", "Net"], "vae": ["evil", "Net"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_the_list_of_networks_that_come_from_a_folder_is_complete() -> None:
    assert {"BiRefNet", "DepthAnything", "PretrainedFlux", "SmallSdxl"} < set(FROM_A_FOLDER)
    assert len(FROM_A_FOLDER) >= 13


@pytest.mark.parametrize("name", FROM_A_FOLDER)
def test_code_beside_the_weights_does_not_run(name: str, tmp_path: Path, marker: Path) -> None:
    with pytest.raises(UserError) as refused:
        load(name, save_hostile_code(tmp_path / "evil", marker))
    assert not marker.exists()
    assert "[y/N]" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_A_FOLDER)
def test_nobody_is_asked_whether_code_may_run(
    name: str, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks "[y/N]" where the argument is left out, and who answers has run it."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UserError):
        load(name, save_hostile_code(tmp_path / "evil", marker))
    assert not marker.exists()


class Executes:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def put_pickles(folder: Path, marker: Path) -> None:
    """In place of every safetensors file, under its own name and under the older one."""
    payload = pickle.dumps({"weight": Executes(marker)})
    for path in list(folder.rglob("*.safetensors")):
        path.write_bytes(payload)
        older = "pytorch_model" if path.stem == "model" else path.stem
        torch.save({"weight": Executes(marker)}, path.with_name(f"{older}.bin"))


@pytest.mark.parametrize("name", FROM_A_FOLDER)
@pytest.mark.parametrize("keeps_safetensors", [True, False])
def test_a_pickle_in_place_of_the_weights_does_not_run(
    name: str, keeps_safetensors: bool, tmp_path: Path, marker: Path
) -> None:
    # The folder as it should be.
    folder = tmp_path / "model"
    folder.mkdir()
    if name == "SmallSdxl":
        modules = SmallSdxl().load()
        modules.unet.save_pretrained(folder / "unet")
        modules.codec.save_pretrained(folder / "codec")
    elif name.startswith("Pretrained"):
        (save_flux if "Flux" in name else save_sdxl)(folder)
    else:
        CONFIGS.get(name, CONFIGS["ClipImages"]).save_pretrained(folder)
        (folder / "model.safetensors").touch()
    put_pickles(folder, marker)
    if not keeps_safetensors:
        for path in folder.rglob("*.safetensors"):
            path.unlink()
    with pytest.raises(UserError):
        load(name, folder)
    assert not marker.exists()


@pytest.mark.parametrize("file", ["x.safetensors", "x.bin", "x.pt", "x.pth"])
def test_published_unet_weights_are_never_unpickled_freely(
    file: str, tmp_path: Path, marker: Path
) -> None:
    torch.save({"weight": Executes(marker)}, tmp_path / file)
    with pytest.raises(UserError, match="without running code"):
        read_unet_weights(str(tmp_path / file), "model.generator_from")
    assert not marker.exists()


def test_a_controlnet_and_a_lora_run_nothing(tmp_path: Path, marker: Path) -> None:
    folder = save_hostile_code(tmp_path / "evil", marker)
    (folder / "diffusion_pytorch_model.safetensors").touch()
    (folder / "pytorch_lora_weights.safetensors").touch()
    put_pickles(folder, marker)
    with pytest.raises(UserError):
        DepthControl(weights=str(folder)).load(SmallSdxl().load().unet, 8)
    save_sdxl(tmp_path / "sdxl")
    with pytest.raises(UserError, match="--lora"):
        PretrainedTextToImage(str(tmp_path / "sdxl"), lora=str(folder)).load()
    assert not marker.exists()


def save_network_with_code(folder: Path, **config: object) -> Path:
    """A network whose code, which lies beside it, multiplies by a weight of 3."""
    folder.mkdir()
    (folder / "net.py").write_text(
        "import torch\nfrom transformers import PretrainedConfig, PreTrainedModel\n"
        "class Cfg(PretrainedConfig):\n    model_type = 'net'\n"
        "class Net(PreTrainedModel):\n    config_class = Cfg\n"
        "    def __init__(self, config):\n        super().__init__(config)\n"
        "        self.gain = torch.nn.Parameter(torch.ones(1))\n        self.post_init()\n"
        "    def forward(self, pixels):\n        return [pixels[:, :1] * self.gain]\n"
    )
    autos = {"AutoConfig": "net.Cfg", "AutoModelForImageSegmentation": "net.Net"}
    values = {"model_type": "net", "auto_map": autos, **config}
    (folder / "config.json").write_text(json.dumps(values))
    save_file({"gain": torch.full((1,), 3.0)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_trusted_code_of_a_folder_runs(tmp_path: Path) -> None:
    folder = save_network_with_code(tmp_path / "model")
    network = BiRefNet(str(folder), None, 16, trust_remote_code=True).load()
    assert float(network.network.gain) == 3
    with pytest.raises(UserError, match=r"BiRefNet: trust_remote_code: .*set trust_remote_code"):
        BiRefNet(str(folder), None, 16).load()


def test_trusted_code_is_not_that_of_a_third_party(tmp_path: Path) -> None:
    autos = {"AutoModelForImageSegmentation": "somebody/else--net.Net"}
    folder = save_network_with_code(tmp_path / "model", auto_map=autos)
    with pytest.raises(UserError, match="its code is that of somebody/else"):
        BiRefNet(str(folder), None, trust_remote_code=True).load()


@pytest.mark.parametrize("revision", ["main", None, "v1", "e2bf8e4"])
@pytest.mark.parametrize("network", [BiRefNet, Metric3D])
def test_code_of_the_hub_is_trusted_at_a_commit_alone(network: type, revision: str | None) -> None:
    with pytest.raises(UserError, match=r"revision: .* can change .*40 digits"):
        network(revision=revision, trust_remote_code=True).load()
    with pytest.raises(UserError, match="trust_remote_code"):
        network().load()


def test_an_export_neither_carries_trust_nor_can_say_it(tmp_path: Path, marker: Path) -> None:
    folder = save_hostile_code(tmp_path / "evil", marker)
    assert "trust_remote_code" not in json.dumps(describe(BiRefNet(trust_remote_code=True)))
    arguments = {"path": str(folder), "revision": None, "trust_remote_code": True}
    hostile = {"class": "BiRefNet", "arguments": arguments}
    with pytest.raises(UserError, match="trust_remote_code"):
        rebuild(hostile).load()
    # The files of both works.
    settings = RefocusSettings(
        backbone=hostile,
        guidance_embed=1.0,
        position_ids="kontext",
        num_inference_steps=1,
        time_shift=1.0,
        size_px=None,
    )
    settings.write(tmp_path)
    with pytest.raises(UserError, match="trust_remote_code"):
        rebuild(RefocusSettings.read(tmp_path).backbone).load()
    settings = Text2ImageSettings(
        backbone=hostile,
        depth=hostile,
        saliency=hostile,
        lens=None,
        few_steps=(999, 749, 499, 249),
        size_px=64,
        exif_conditioned=(),
    )
    settings.write(tmp_path)
    with pytest.raises(UserError):
        rebuild(Text2ImageSettings.read(tmp_path).depth).load()
    assert not marker.exists()


def test_no_shipped_file_trusts_code_of_others() -> None:
    files = [path for path in EXPERIMENTS.rglob("*.*") if path.suffix in (".yaml", ".txt")]
    assert files
    said = [
        path.name
        for path in files
        for line in path.read_text().splitlines()
        if "trust_remote_code" in line.partition("#")[0]
    ]
    assert said == []


def test_check_says_what_to_add_and_a_run_does_not_begin_without(
    tmp_path: Path, marker: Path
) -> None:
    folder = save_hostile_code(tmp_path / "evil", marker)
    model = Text2Image(SmallSdxl(), SmallDepth(), BiRefNet(str(folder), None))
    problems: list[str] = []
    (line,) = code_lines(model, {"data": {"init_args": {}}}, problems)
    assert line == f"code: model.saliency: BiRefNet runs code of {folder}"
    assert f"code that lies at {folder}" in problems[0]
    assert problems[0].endswith("--model.saliency.trust_remote_code true.")
    with pytest.raises(UserError, match=r"--model\.saliency\.trust_remote_code true"):
        model.configure_model()
    assert not marker.exists()
