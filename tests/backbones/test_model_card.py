"""Cards as huggingface_hub reads them, with the licence of the base and no local path."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from dofsuite.backbones import PretrainedFlux, PretrainedKlein, PretrainedSdxl, SmallFlux
from dofsuite.backbones.descriptors import describe
from dofsuite.backbones.model_card import licence_of_base, model_card
from dofsuite.model_terms import terms_of_model

TEXT = "# An adapter\n\nTrained on {base}; its licence{licence}.\n"


def card_of(descriptor) -> ModelCard:
    card = model_card(TEXT, describe(descriptor), "adapter", "image-to-image", ["lora"])
    return ModelCard(card)


@pytest.mark.parametrize(
    ("descriptor", "license_fields"),
    [
        (
            PretrainedFlux(),
            {
                "license": "other",
                "license_name": "flux-1-dev-non-commercial-license",
                "license_link": "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
            },
        ),
        (PretrainedFlux("black-forest-labs/FLUX.1-schnell"), {"license": "apache-2.0"}),
        (PretrainedKlein(), {"license": "apache-2.0"}),
        (PretrainedSdxl(), {"license": "openrail++"}),
        (PretrainedSdxl("someone/sdxl-finetune"), {}),
    ],
    ids=["FLUX.1-dev", "FLUX.1-schnell", "klein", "SDXL", "unknown"],
)
def test_the_hub_reads_base_and_licence(descriptor, license_fields):
    card = card_of(descriptor)
    assert card.data.to_dict() == {
        "base_model": descriptor.path,
        "base_model_relation": "adapter",
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["depth-of-field", "bokeh", "dofsuite", "lora"],
        **license_fields,
    }
    assert descriptor.path in card.text
    assert ("before you share" in card.text) == (not license_fields)


def test_a_local_base_is_not_named_by_its_path(tmp_path):
    card = card_of(PretrainedFlux(str(tmp_path / "FLUX.1-dev")))
    assert card.data.base_model is None
    assert card.data.license is None
    assert str(tmp_path) not in card.content


def test_the_small_base_is_dofsuite_s_own():
    card = card_of(SmallFlux())
    assert card.data.base_model is None
    assert card.data.license == "apache-2.0"


def test_docs_training_has_the_terms_of_every_base_that_it_names():
    guide = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    table = guide.split("| base | licence |")[1].split("\n\n")[0]
    for row in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)[:-1]:
        for name in row[0].split(", "):
            assert terms_of_model(name).licence == row[1], name
    for base in ("FLUX.1-dev", "FLUX.2-klein-base-4B", "stable-diffusion-xl-base-1.0"):
        assert base in table


def test_a_sentence_says_what_the_licence_means_for_what_is_trained(tmp_path):
    assert "non-commercial use" in licence_of_base(describe(PretrainedFlux()))
    assert "commercial ones too" in licence_of_base(describe(PretrainedKlein()))
    assert "unknown here" in licence_of_base(describe(PretrainedFlux(str(tmp_path))))
