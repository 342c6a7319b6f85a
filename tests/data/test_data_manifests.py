"""Every file in data_manifests/ parses, says what it must, and agrees with the code and the
installed package.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dofsuite.data.synthetic import motorcycle as middlebury
from dofsuite.data.synthetic.photographs import PHOTOGRAPHS, package_bytes
from dofsuite.data.synthetic.sets import RECIPES

MANIFESTS = sorted((Path(__file__).parents[2] / "data_manifests").glob("*.yaml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifest_states_source_licence_layout_and_checksums(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    assert manifest["name"] == path.stem
    assert {"source", "layout", "depth", "files"} <= set(manifest)
    for file in manifest["files"].values():
        assert len(file["sha256"]) == 64
        assert "licence" in manifest or "licence" in file


def files() -> dict[str, dict[str, object]]:
    return {
        name: file
        for path in MANIFESTS
        for name, file in yaml.safe_load(path.read_text())["files"].items()
    }


def test_manifests_name_every_file_that_is_read() -> None:
    assert {name: (file["file"], file["sha256"]) for name, file in files().items()} == PHOTOGRAPHS


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_installed_photograph_is_the_one_stated(name: str) -> None:
    data, stated = package_bytes(name), files()[name]
    assert hashlib.sha256(data).hexdigest() == stated["sha256"]
    if not str(stated["file"]).endswith(".npz"):
        assert list(Image.open(io.BytesIO(data)).size) == stated["size_px"]


def test_synthetic_sets_are_the_recipes() -> None:
    manifest = yaml.safe_load((MANIFESTS[0].parent / "synthetic_photographs.yaml").read_text())
    stated = manifest["synthetic_sets"]
    assert {n: (s["scenes"], set(s["from"])) for n, s in stated.items()} == {
        n: (r.scenes, {*r.photographs, *r.textures}) for n, r in RECIPES.items()
    }
    # The motorcycle has no split of its own: it is for evaluation only.
    splits = {photo: file.get("split", "val") for photo, file in files().items()}
    for one in stated.values():
        for photo in set(one["from"]) - set(one.get("also_in_training", ())):
            assert splits[photo] == one["split"]


def test_calibration_is_the_one_stated() -> None:
    depth = yaml.safe_load((MANIFESTS[0].parent / "middlebury_motorcycle.yaml").read_text())[
        "depth"
    ]
    assert depth["focal_length_px"] == middlebury.FOCAL_LENGTH_PX
    assert depth["baseline_m"] == middlebury.BASELINE_M
    assert depth["doffs_px"] == middlebury.DOFFS_PX
