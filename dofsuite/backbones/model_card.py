"""The card of an export: what the hub reads (base model, licence, tags), then words for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import ModelCardData

DEV_LICENSE = {
    "license": "other",
    "license_name": "flux-1-dev-non-commercial-license",
    "license_link": "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
}
# Hub id of a base -> its licence, as a card's front matter says it.
LICENSES = {
    "black-forest-labs/FLUX.1-dev": DEV_LICENSE,
    "black-forest-labs/FLUX.1-Kontext-dev": DEV_LICENSE,
    "black-forest-labs/FLUX.1-schnell": {"license": "apache-2.0"},
    "black-forest-labs/FLUX.2-klein-base-4B": {"license": "apache-2.0"},
    "black-forest-labs/FLUX.2-klein-4B": {"license": "apache-2.0"},
    "stabilityai/stable-diffusion-xl-base-1.0": {"license": "openrail++"},
}
TAGS = ("depth-of-field", "bokeh", "dofsuite")


def base_of(backbone: dict[str, Any]) -> tuple[str | None, str]:
    """Return the base model's hub id, or None, and the base in words, without a local path.

    Args:
        backbone: As `descriptors.describe` returns it.
    """
    if backbone["class"].startswith("Small"):
        return None, "the small network that comes with dofsuite"
    path = str(backbone["arguments"]["path"])
    if Path(path).is_absolute() or Path(path).exists() or path.count("/") != 1:
        return None, "a base model from a local folder"
    return path, f"[{path}](https://huggingface.co/{path})"


def model_card(
    text: str,
    backbone: dict[str, Any],
    relation: Literal["adapter", "finetune"],
    pipeline_tag: str,
    tags: Sequence[str] = (),
) -> str:
    """Return a README.md: front matter for the hub, then `text` with {base} and {licence} filled.

    The weights are derivatives of their base, so the base's licence is theirs; that of a base from
    a local folder is not known, and the card says so.
    """
    # The base and its licence
    hub_id, words = base_of(backbone)
    license_of_base: dict[str, Any] = LICENSES.get(hub_id or "", {})
    if backbone["class"].startswith("Small"):
        license_of_base = {"license": "apache-2.0"}
    # For the hub, then for people
    front_matter = ModelCardData(
        base_model=hub_id,
        base_model_relation=relation if hub_id else None,
        library_name="diffusers",
        pipeline_tag=pipeline_tag,
        tags=[*TAGS, *tags],
        **license_of_base,
    )
    name = license_of_base.get("license_name", license_of_base.get("license"))
    licence = f" ({name})" if name else "; name it here before you share them"
    filled = text.replace("{base}", words).replace("{licence}", licence)
    return f"---\n{front_matter.to_yaml()}\n---\n\n{filled}"
