"""The command line's mistakes, and models: one sentence and exit code 2."""

import sys

import pytest
import torch

from dofsuite.app.__main__ import main
from dofsuite.app.models import load_models
from dofsuite.app.refocusing import refocus
from dofsuite.app.scene_shot import make_scene
from dofsuite.app.workspace import example_workspace
from dofsuite.errors import UserError
from tests.app.tiny_exports import export_refocus, export_text2image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    export_refocus(root / "refocus")
    export_text2image(root / "text2image")
    export_text2image(root / "no_lens", lens=None, exif_conditioned=("generator",))
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def models(folder):
    return load_models([folder / "refocus", folder / "text2image"])


def test_without_gradio_one_sentence_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main([]) == 2
    error = capsys.readouterr().err
    assert error == "app: the page needs Gradio: pip install 'gradio>=6.16' (or dofsuite[app]).\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no/such/run"], "no/such/run: RUN_OR_EXPORT: there is no such folder; check the path."),
        (["--port", "70000"], "--port: 70000 must be from 1 to 65535."),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err == f"{sentence}\n"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["empty"], "it holds no export of refocus or text2image"),
        (["no_lens"], "the page photographs one scene with any camera"),
        (["refocus", "refocus"], "the page takes one model of a kind"),
    ],
)
def test_a_model_that_fits_no_tab_is_refused(folder, names, sentence):
    with pytest.raises(UserError, match=sentence):
        load_models([folder / name for name in names])


def test_the_network_is_given_the_photograph_and_the_click(models):
    workspace, steps = example_workspace(), []
    near = refocus(models.refocus, workspace, (0.45, 0.6), 12.0, True, lambda *n: steps.append(n))
    far = refocus(models.refocus, workspace, (0.1, 0.1), 12.0, True)
    assert steps == [(1, 2), (2, 2)]
    assert torch.equal(near[0], far[0])
    assert not torch.equal(near[1], far[1])
    assert max(near[1].shape) == 640


def test_a_scene_is_photographed_again_without_a_network(models):
    studio = make_scene(models.text2image, "a red ball", seed=0)
    called = []
    for network in models.text2image.components.values():
        if isinstance(network, torch.nn.Module):
            network.register_forward_hook(lambda *_: called.append(1))
    wide = studio.look(1.8, 85.0, False)
    assert wide.shape == (3, 640, 640)
    assert not torch.equal(wide, studio.look(22.0, 85.0, False))
    # A click focuses on what is under it, and the tint is there
    clicked = studio.focused_at((0.3, 0.7))
    height, width = studio.scene.depth.shape[-2:]
    row, column = int(0.7 * height), int(0.3 * width)
    assert clicked.focus_depth == float(studio.scene.depth[0, 0, row, column])
    assert clicked.radius_px(1.8, 85.0)[0, row, column].abs() < 1e-3
    assert not torch.equal(clicked.look(1.8, 85.0, True), clicked.look(1.8, 85.0, False))
    assert called == []


def test_an_empty_prompt_is_refused(models):
    with pytest.raises(UserError, match="Say what to show"):
        make_scene(models.text2image, "  ", seed=0)
