"""The card of an export: what the hub reads (base model, licence, tags), then words for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import ModelCardData

from dofsuite.model_terms import APACHE, ModelTerms, terms_of_model

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


def terms_of_base(backbone: dict[str, Any]) -> ModelTerms | None:
    """Return what the base's licence allows; None where it is not known.

    Args:
        backbone: As `descriptors.describe` returns it.
    """
    if backbone["class"].startswith("Small"):
        return APACHE
    hub_id, _ = base_of(backbone)
    return terms_of_model(hub_id) if hub_id else None


def licence_of_base(backbone: dict[str, Any]) -> str:
    """Return a sentence: the base, its licence, and what that means for what is trained on it."""
    hub_id, words = base_of(backbone)
    terms = terms_of_base(backbone)
    if terms is None:
        return f"{hub_id or words}: its licence is unknown here; it holds for what is trained"
    return f"{hub_id or words}: {terms.licence}: {terms.weights}"


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
    terms = terms_of_base(backbone)
    # For the hub, then for people
    license_fields: dict[str, Any] = terms.hub if terms else {}
    front_matter = ModelCardData(
        base_model=hub_id,
        base_model_relation=relation if hub_id else None,
        library_name="diffusers",
        pipeline_tag=pipeline_tag,
        tags=[*TAGS, *tags],
        **license_fields,
    )
    licence = "; name it here before you share them"
    if terms:
        licence = f" ({terms.licence}): {terms.weights}"
    filled = text.replace("{base}", words).replace("{licence}", licence)
    return f"---\n{front_matter.to_yaml()}\n---\n\n{filled}"
