"""The ComfyUI node gives the pipeline's camera, and every key of an adapter has a place there."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dofsuite.refocus import RefocusPipeline
from dofsuite.refocus.export import LORA
from tests.test_examples import LocalFlux, base_and_export  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "comfyui"


@pytest.fixture(scope="module")
def node():
    spec = importlib.util.spec_from_file_location("comfyui_node", FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS["RefocusCamera"]()


def test_its_conditioning_is_the_pipeline_s_camera(node, base_and_export):  # noqa: F811
    base, export = base_and_export
    pipe = RefocusPipeline.from_export(export, LocalFlux(base))
    photo, depth = torch.rand(1, 16, 4, 6), torch.rand(1, 16, 4, 6)
    ((conditioning,),) = node.condition(
        str(export), {"samples": photo}, {"samples": depth}, 0.3, 0.7, 9.0
    )
    level = pipe.token_level(torch.tensor([9.0]), torch.empty(1, 3, 32, 48))
    assert torch.equal(conditioning[0], pipe.camera(torch.tensor([[0.3, 0.7]]), level))
    extra = conditioning[1]
    assert torch.equal(extra["pooled_output"][0], pipe.camera.pooled_text)
    assert extra["guidance"] == pipe.config.guidance_embed
    assert extra["reference_latents"][0] is photo
    assert extra["reference_latents"][1] is depth


def table() -> list[tuple[re.Pattern[str], str, str]]:
    text = (ROOT / "docs" / "comfyui.md").read_text()
    rows = re.findall(r"^\| `(\S+\.N\.\S+)` \| `(\S+)` \| (.+?) \|$", text, re.MULTILINE)
    return [
        (re.compile(re.escape(ours).replace(r"\.N\.", r"\.(\d+)\.").replace("N", r"(\d+)")), *rest)
        for ours, *rest in rows
    ]


def test_every_key_of_an_adapter_has_a_row_and_fills_it(base_and_export):  # noqa: F811
    """Each of ours fits one row; together they fill ComfyUI's matrices without overlap."""
    _, export = base_and_export
    weights = load_file(export / LORA)
    hidden_size = 32
    filled = {}
    for key, weight in weights.items():
        if not key.endswith(".lora_B.weight"):
            continue
        name = key.removeprefix("transformer.").removesuffix(".lora_B.weight")
        ((theirs, rows),) = [(t, r) for ours, t, r in table() if ours.fullmatch(name)]
        if rows != "all":
            first, last = (int(number) * hidden_size for number in rows.split(" to "))
            assert len(weight) == last - first, name
            filled.setdefault(theirs, []).append((first, last))
    assert len(weights) == 2 * len(table())
    for theirs, spans in filled.items():
        spans.sort()
        assert [first for first, _ in spans] == [0, *(last for _, last in spans[:-1])], theirs
        assert spans[-1][1] == (7 if "linear1" in theirs else 3) * hidden_size


def test_the_graph_is_whole(node):
    graph = json.loads((FOLDER / "workflow.json").read_text())
    for number, each in graph.items():
        for value in each["inputs"].values():
            if isinstance(value, list):
                assert value[0] in graph, number
    (camera,) = [each for each in graph.values() if each["class_type"] == "RefocusCamera"]
    assert camera["inputs"].keys() == node.INPUT_TYPES()["required"].keys()


@pytest.mark.parametrize("key", ["position_ids", "conditions"])
def test_an_adapter_that_comfyui_would_run_otherwise_is_refused(
    node,
    base_and_export,  # noqa: F811
    tmp_path,
    key,
):
    export = shutil.copytree(base_and_export[1], tmp_path / "changed")
    file = export / "refocus.json"
    settings = json.loads(file.read_text())
    other = {"position_ids": "shared", "conditions": "cached"}[key]
    assert settings[key] != other
    file.write_text(json.dumps(settings | {key: other}))
    latent = {"samples": torch.zeros(1, 16, 4, 4)}
    with pytest.raises(ValueError, match=key):
        node.condition(str(export), latent, latent, 0.5, 0.5, 3.0)


def test_it_does_not_need_dofsuite():
    source = (FOLDER / "__init__.py").read_text()
    assert "import dofsuite" not in source
    assert "from dofsuite" not in source
