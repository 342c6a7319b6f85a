"""Which networks a curation asks, and what; light, for the command line."""

from typing import NamedTuple

# Of the supplement's networks the words are not stated (*ours*).
PHOTOGRAPH_QUESTION = (
    "Is this a real photograph taken by a camera, and not an illustration, a rendering, a "
    "screenshot or an AI-generated image? Answer yes or no."
)
# Paper: InternVL, size and version not stated; its processor needs torchvision.
DEFAULT_VLM = "OpenGVLab/InternVL3-1B-hf"
# Paper: BLIP-2, size not stated.
DEFAULT_CAPTIONER = "Salesforce/blip2-opt-2.7b"
NO_NETWORK = "none"


class Choice(NamedTuple):
    """Which networks a curation uses: hub ids or folders, or `none`; of blur `packaged` too."""

    blur: str = NO_NETWORK
    photograph: str = DEFAULT_VLM
    caption: str = DEFAULT_CAPTIONER
