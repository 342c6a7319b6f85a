"""What the licenses of text-to-image models say of training on the images they make.

As read in November 2026; a model that is not listed needs its license on the command line.
"""

import re
from typing import NamedTuple


class ModelTerms(NamedTuple):
    """A license, and what follows for an adapter that is trained on the model's images."""

    licence: str
    bearing: str


NO_LIMIT = "it sets no limit to what is trained on the images"
COMPETING = (
    "non-commercial, and its outputs may not train a model that competes with it: an adapter "
    "trained on these images is for research, and must not be published under a license that "
    "allows commercial use"
)
# The first that fits counts.
TERMS: dict[str, ModelTerms] = {
    r"flux\.?2-klein-(base-)?4b": ModelTerms("Apache-2.0", NO_LIMIT),
    r"flux\.?2-": ModelTerms("FLUX Non-Commercial License v2.1", COMPETING),
    r"flux\.?1-schnell": ModelTerms("Apache-2.0", NO_LIMIT),
    r"flux\.?1-dev": ModelTerms("FLUX.1 [dev] Non-Commercial License", COMPETING),
    r"z-image": ModelTerms("Apache-2.0", NO_LIMIT),
    r"qwen-image-2\.1": ModelTerms(
        "Qwen Research License", "research only: an adapter trained on these images is too"
    ),
    r"qwen-image": ModelTerms("Apache-2.0", NO_LIMIT),
    r"stable-diffusion-xl": ModelTerms(
        "CreativeML Open RAIL++-M",
        "the images may be trained on; the license's use restrictions bind who makes them",
    ),
    r"stable-diffusion-3": ModelTerms(
        "Stability AI Community License",
        "free below a yearly revenue of one million dollars, above it by agreement",
    ),
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
