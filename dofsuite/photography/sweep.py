"""Which pictures are made, and under which names: every focus with every amount of blur."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.photography.config import LensConfig
from dofsuite.photography.photo_encoding import FORMATS, checked_extension
from dofsuite.photography.photo_file import READABLE
from dofsuite.photography.photos_config import PhotosConfig


class Variant(NamedTuple):
    """One picture of a sweep."""

    focus: tuple[float, float] | float
    """(x, y), or a disparity."""
    bokeh_level: float | None
    f_number: float | None
    name: str
    """Its part of the file name."""


def variants_of(config: LensConfig) -> list[Variant]:
    """Every focus with every amount of blur, focus outermost; or the restored photograph alone."""
    if config.only_deblurs:
        return [Variant((0.5, 0.5), 0.0, None, "_deblurred")]
    focuses: tuple[tuple[float, float] | float, ...] = config.focus or config.focus_disparity
    variants = []
    for focus in focuses:
        at = _place(focus, focuses)
        variants += [Variant(focus, level, None, f"{at}_bokeh{level:g}") for level in config.bokeh]
        variants += [Variant(focus, None, n, f"{at}_f{n:g}") for n in config.f_number]
    return variants


def _place(focus: tuple[float, float] | float, focuses: Sequence[object]) -> str:
    if len(focuses) < 2:
        return ""
    return f"_focus{focus[0]:g},{focus[1]:g}" if isinstance(focus, tuple) else f"_focus{focus:g}"


def photo_paths(named: Sequence[Path]) -> Iterator[Path]:
    """Files as they are named, folders by their photographs in order of name.

    Raises:
        UserError: A folder holds no photograph.
    """
    for path in named:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in READABLE)
        if not inside:
            raise UserError(f"{path}: there is no photograph ({', '.join(READABLE)}) in it.")
        yield from inside


@dataclass(frozen=True)
class Outputs:
    stills: list[Path]
    animation: Path | None

    @property
    def all(self) -> list[Path]:
        return [*self.stills, *([self.animation] if self.animation else [])]


def point_variants(config: PhotosConfig) -> list[Variant]:
    """Every point with every bokeh level, point outermost."""
    return [
        Variant(point, level, None, _place(point, config.focus) + f"_bokeh{level:g}")
        for point in config.focus
        for level in config.bokeh
    ]


def checked_outputs(
    config: PhotosConfig, photos: Sequence[Path], variants: Sequence[Variant]
) -> dict[Path, Outputs]:
    """Name every file before anything is rendered.

    Raises:
        UserError: A file would be overwritten or written twice, or the name fits no format.
    """
    if config.animate and len(variants) < 2:
        raise UserError("--animate: one picture does not move; give several --bokeh or --focus.")
    one_file = config.output.suffix.lower() in FORMATS and not config.output.is_dir()
    if config.output.suffix and not one_file and not config.output.is_dir():
        checked_extension(config.output)
    if one_file and (len(photos) > 1 or len(variants) > 1 or config.animate):
        count = len(photos) * len(variants)
        raise UserError(f"{config.output}: --output: {count} pictures need a folder, not a file.")
    outputs = {}
    for photo in photos:
        extension = photo.suffix if photo.suffix.lower() in FORMATS else ".jpg"
        stem = photo.stem.removeprefix("example:")
        stills = [config.output / f"{stem}{variant.name}{extension}" for variant in variants]
        moving = config.output / f"{stem}.{config.animate}" if config.animate else None
        outputs[photo] = Outputs([config.output] if one_file else stills, moving)
    # No input is an output, none is written twice, none is lost
    inputs = {path.resolve() for path in photos}
    if config.depth not in ("none", "auto", "plane"):
        depth = Path(config.depth)
        inputs |= {path.resolve() for path in (depth.iterdir() if depth.is_dir() else [depth])}
    written: set[Path] = set()
    for path in (path for each in outputs.values() for path in each.all):
        if path.resolve() in inputs:
            raise UserError(f"{path}: --output: it is an input; choose another name.")
        if path.resolve() in written:
            raise UserError(f"{path}: --output: two photographs have this name; rename one.")
        if path.exists() and not config.overwrite:
            raise UserError(f"{path}: --output: it exists; choose another name or --overwrite.")
        written.add(path.resolve())
    return outputs
