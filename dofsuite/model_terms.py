"""What the licences of published models allow, of what is trained on them and on their images.

As read in November 2026, and no legal advice; a model that is not listed has no terms here.
"""

import re
from typing import NamedTuple


class ModelTerms(NamedTuple):
    """A licence and what follows from it.

    Attributes:
        licence: Its name.
        weights: For weights that are trained on the model's, an adapter or all of them.
        bearing: For an adapter that is trained on the model's images.
        hub: The front matter of a card on the hub.
    """

    licence: str
    weights: str
    bearing: str
    hub: dict[str, str]


ANY_USE = "what is trained on it may be used and published for any purpose, commercial ones too"
NON_COMMERCIAL = (
    "what is trained on it falls under the same licence, for non-commercial use; its pictures may "
    "be used otherwise, but may not train a competing model"
)
NO_LIMIT = "it sets no limit to what is trained on the images"
COMPETING = (
    "non-commercial, and its outputs may not train a model that competes with it: an adapter "
    "trained on these images is for research, and must not be published under a license that "
    "allows commercial use"
)
APACHE = ModelTerms("Apache-2.0", ANY_USE, NO_LIMIT, {"license": "apache-2.0"})
MIT = ModelTerms("MIT", ANY_USE, NO_LIMIT, {"license": "mit"})
# The first that fits counts.
TERMS: dict[str, ModelTerms] = {
    r"flux\.?2-klein-(base-)?4b": APACHE,
    r"flux\.?2-": ModelTerms(
        "FLUX Non-Commercial License v2.1",
        NON_COMMERCIAL,
        COMPETING,
        {"license": "other", "license_name": "flux-non-commercial-license"},
    ),
    r"flux\.?1-schnell": APACHE,
    r"flux\.?1-(kontext-)?dev": ModelTerms(
        "FLUX.1 [dev] Non-Commercial License",
        NON_COMMERCIAL,
        COMPETING,
        {
            "license": "other",
            "license_name": "flux-1-dev-non-commercial-license",
            "license_link": (
                "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"
            ),
        },
    ),
    r"z-image": APACHE,
    r"qwen-image-2\.1": ModelTerms(
        "Qwen Research License",
        "what is trained on it is for research too",
        "research only: an adapter trained on these images is too",
        {"license": "other", "license_name": "qwen-research"},
    ),
    r"qwen-image": APACHE,
    r"stable-diffusion-xl": ModelTerms(
        "CreativeML Open RAIL++-M",
        "what is trained on it may be used and published, commercially too, with the licence's use "
        "restrictions",
        "the images may be trained on; the license's use restrictions bind who makes them",
        {"license": "openrail++"},
    ),
    r"stable-diffusion-3": ModelTerms(
        "Stability AI Community License",
        "what is trained on it is free below a yearly revenue of one million dollars",
        "free below a yearly revenue of one million dollars, above it by agreement",
        {"license": "other", "license_name": "stabilityai-ai-community"},
    ),
    r"depth-anything-v2-metric-\w+-small": APACHE,
    r"sdxl-vae-fp16-fix|birefnet": MIT,
}


def terms_of_model(name: str) -> ModelTerms | None:
    """Return what is known of a model by its hub id; None for another.

    >>> terms_of_model("black-forest-labs/FLUX.2-klein-base-4B").licence
    'Apache-2.0'
    """
    for pattern, terms in TERMS.items():
        if re.search(pattern, name, re.IGNORECASE):
            return terms
    return None
