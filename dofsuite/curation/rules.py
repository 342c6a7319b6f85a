"""The rules: each a named filter of one image's facts, with its threshold.

Text2image's are of section D of the supplement (arXiv 2510.06215). An f-number decides which set an
image may go to, Shallow or Deep; so there is one first rule that rejects an image, and it is
counted there. Cheap rules come first: files, then EXIF, pixels, networks. Refocus's are of
DiffCamera's section D (arXiv 2509.26599). What a rule needs to know and EXIF does not say counts
against the image (*ours*): a set is worth what its worst image is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

from dofsuite.curation.phones import Phone, is_phone
from dofsuite.errors import UserError

Facts = dict[str, Any]
Purpose = Literal["text2image", "refocus"]
Stage = Literal["header", "pixels", "blur", "photograph"]
DEEP, SHALLOW = "deep", "shallow"
BLUR_LABELS = ("none", "desirable", "undesirable")


@dataclass(frozen=True)
class Thresholds:
    """Numbers of the rules; `--threshold NAME=VALUE` changes one."""

    shallow_f_number_below: float = 10.0
    """*Stated*: "aperture values below 10"."""
    deep_f_number_from: float = 10.0
    """*Stated*: "between 10 and 50"."""
    deep_f_number_to: float = 50.0
    """*Stated*."""
    deep_exposure_s: float = 0.1
    """*Stated*: longer ones are excluded."""
    min_side_px: float = 512
    """*Ours*: a smaller image is blurred by the enlargement to the training's size."""
    sharpness: float = 100.0
    """*Ours*, for refocus: Laplacian variance at `REDUCED_PX`; the paper states no number."""
    duplicate_bits: float = 4
    """*Ours*: perceptual hashes of 64 bits that differ in at most so many are of one photograph."""
    scene_bits: float = 7
    """*Ours*: of one scene, which lies in one split."""
    scene_s: float = 30.0
    """*Ours*: so are photographs of one camera taken within so many seconds of each other."""


def changed(settings: tuple[str, ...]) -> Thresholds:
    """Return the thresholds with `NAME=VALUE` settings.

    Raises:
        UserError: A name is no threshold, or a value no number from 0 on.
    """
    thresholds = Thresholds()
    names = [field.name for field in fields(Thresholds)]
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if name not in names or not 0 <= value < float("inf"):
            raise UserError(
                f"--threshold: {setting!r} is not NAME=VALUE with a number from 0 on and one of "
                f"the names {', '.join(names)}."
            )
        thresholds = replace(thresholds, **{name: value})
    return thresholds


class Limits(NamedTuple):
    """What the rules are given beside an image's facts."""

    thresholds: Thresholds = Thresholds()
    phones: tuple[Phone, ...] = ()
    # Laplacian variance by source, where it is not the usual one.
    sharpness: Mapping[str, float] = {}


class Rule(NamedTuple):
    """A filter: `rejects` returns why an image is left out, or None."""

    name: str
    keeps: str
    mark: str
    stage: Stage
    rejects: Callable[[Facts, Limits], str | None]


def set_of(facts: Facts, thresholds: Thresholds) -> str | None:
    """The set that an f-number allows: `shallow` below 10, `deep` from 10 to 50, else None."""
    f_number = facts.get("f_number")
    if f_number is None:
        return None
    if f_number < thresholds.shallow_f_number_below:
        return SHALLOW
    is_deep = thresholds.deep_f_number_from <= f_number <= thresholds.deep_f_number_to
    return DEEP if is_deep else None


# --- Rules of files and EXIF: `header` ---


def readable(facts: Facts, _: Limits) -> str | None:
    return facts.get("damage")


def has_exif(facts: Facts, _: Limits) -> str | None:
    return None if facts.get("has_exif") else "no EXIF"


def aperture(facts: Facts, limits: Limits) -> str | None:
    if set_of(facts, limits.thresholds) is not None:
        return None
    return f"f/{facts['f_number']:g}" if "f_number" in facts else "no f-number"


def device(facts: Facts, limits: Limits) -> str | None:
    if set_of(facts, limits.thresholds) != SHALLOW:
        return None
    make, model = facts.get("make", ""), facts.get("model", "")
    if not make and not model:
        return "no make or model"
    return f"{make} {model}".strip() if is_phone(make, model, limits.phones) else None


def exposure(facts: Facts, limits: Limits) -> str | None:
    if set_of(facts, limits.thresholds) != DEEP:
        return None
    if "exposure_s" not in facts:
        return "no exposure time"
    exposure_s = facts["exposure_s"]
    return f"{exposure_s:g} s" if exposure_s > limits.thresholds.deep_exposure_s else None


def optics(facts: Facts, _: Limits) -> str | None:
    return f"no {facts['no_optics']}" if "no_optics" in facts else None


def resolution(facts: Facts, limits: Limits) -> str | None:
    is_small = min(facts["width"], facts["height"]) < limits.thresholds.min_side_px
    return f"{facts['width']}x{facts['height']} px" if is_small else None


# --- Rules of pixels and networks ---


def decodes(facts: Facts, _: Limits) -> str | None:
    return facts.get("pixel_damage")


def sharpness(facts: Facts, limits: Limits) -> str | None:
    least = limits.sharpness.get(facts["source"], limits.thresholds.sharpness)
    found = facts["sharpness"]
    return f"{found:g} below {least:g}" if found < least else None


def blur(facts: Facts, limits: Limits) -> str | None:
    wanted = "desirable" if set_of(facts, limits.thresholds) == SHALLOW else "none"
    return None if facts["blur"] == wanted else f"{facts['blur']} blur"


def photograph(facts: Facts, _: Limits) -> str | None:
    words = facts["photograph"].split()
    is_photograph = bool(words) and words[0].strip(".,;:!").lower() == "yes"
    return None if is_photograph else f"answer: {facts['photograph']!r}"


READABLE = Rule("readable", "JPEG, PNG or WebP files", "ours", "header", readable)
RESOLUTION = Rule("resolution", "short side from {min_side_px:g} px", "ours", "header", resolution)
DECODES = Rule(
    "decodes",
    "whole files within the pixel limit",
    "ours",
    "pixels",
    decodes,
)
PHOTOGRAPH = Rule(
    "photograph", "real photographs, by a vision-language model", "stated", "photograph", photograph
)
RULES: dict[Purpose, tuple[Rule, ...]] = {
    "text2image": (
        READABLE,
        Rule("exif", "files with EXIF", "stated", "header", has_exif),
        Rule(
            "aperture",
            "Shallow f < {shallow_f_number_below:g}, "
            "Deep {deep_f_number_from:g} <= f <= {deep_f_number_to:g}",
            "stated",
            "header",
            aperture,
        ),
        Rule("device", "Shallow: no smartphones", "stated", "header", device),
        Rule("exposure", "Deep: at most {deep_exposure_s:g} s", "stated", "header", exposure),
        Rule("optics", "focal length and sensor width known", "inferred", "header", optics),
        RESOLUTION,
        DECODES,
        Rule(
            "blur", "Shallow: desirable, Deep: none, by the blur classifier", "stated", "blur", blur
        ),
        PHOTOGRAPH,
    ),
    "refocus": (
        READABLE,
        RESOLUTION,
        DECODES,
        Rule("sharpness", "Laplacian variance from the threshold", "stated", "pixels", sharpness),
        PHOTOGRAPH,
    ),
}
# Rules of the merge, which compare images: name -> what it keeps.
MERGE_RULES = {
    "manual": "images that the manual pass did not drop",
    "duplicate": "one of the copies of a photograph, the largest",
    "balance": "sets of one size",
}
# For `--without`: nothing that comes later needs what these rules look at.
CAN_BE_LEFT_OUT = ("device", "exposure", "optics", "resolution", "sharpness", "blur", "photograph")


def rules_of(purpose: Purpose, without: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """Return the rules in their order, those in `without` left out.

    Raises:
        UserError: A name is no rule, or one that nothing works without.
    """
    rules = RULES[purpose]
    names = [rule.name for rule in rules if rule.name in CAN_BE_LEFT_OUT]
    for name in without:
        if name not in names:
            raise UserError(f"--without: {name!r} is none of {', '.join(names)}.")
    return tuple(rule for rule in rules if rule.name not in without)


def first_rejection(
    rules: tuple[Rule, ...], facts: Facts, limits: Limits
) -> tuple[str, str] | None:
    """Return name and reason of the first rule that rejects an image; None if all keep it."""
    for rule in rules:
        reason = rule.rejects(facts, limits)
        if reason is not None:
            return rule.name, reason
    return None
