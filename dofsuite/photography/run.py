"""From options to pictures: every photograph, every focus, every amount of blur."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from tqdm import tqdm

from dofsuite.errors import UserError
from dofsuite.files import write_bytes
from dofsuite.photography.animation import encode_animation, frame_of
from dofsuite.photography.camera import radius_of
from dofsuite.photography.config import LensConfig
from dofsuite.photography.deblur import Deblurrer
from dofsuite.photography.example import EXAMPLE, example_photo
from dofsuite.photography.full_size import OnTile, blurred_photo
from dofsuite.photography.photo import Photo
from dofsuite.photography.photo_encoding import lost_in, write_photo
from dofsuite.photography.photo_file import read_photo
from dofsuite.photography.photos_config import PhotosConfig
from dofsuite.photography.scene_depth import (
    DepthEstimator,
    SceneDepth,
    plane_depth,
    read_depth,
)
from dofsuite.photography.sweep import (
    Outputs,
    Variant,
    checked_outputs,
    photo_paths,
    variants_of,
)

DEPTH_EXTENSIONS = (".npy", ".png", ".jpg", ".jpeg", ".webp")


class Networks(NamedTuple):
    """What a photograph may need; each is loaded when it is used."""

    estimate: DepthEstimator
    deblur: Deblurrer | None


def photograph_all(config: LensConfig) -> None:
    """Render all photographs; a bad one is reported and the others are done.

    Raises:
        UserError: An option is wrong, or at least one photograph could not be rendered.
    """
    # Everything is named and checked before anything is rendered.
    photos = list(dict.fromkeys(photo_paths(config.photos)))
    variants = variants_of(config)
    outputs = checked_outputs(config, photos, variants)
    deblur = Deblurrer(config.deblur) if config.deblur else None
    networks = Networks(DepthEstimator(config.depth_model), deblur)

    def photograph_file(path: Path) -> None:
        if deblur and config.only_deblurs:
            _deblur_file(config, path, outputs[path], deblur)
        else:
            _photograph_file(config, path, variants, outputs[path], networks)

    for_each_photo("lens", photos, photograph_file)


def for_each_photo(name: str, photos: Sequence[Path], make: Callable[[Path], None]) -> None:
    """Make one photograph after the other; a bad one is reported and the others are done.

    Raises:
        UserError: At least one could not be made; the message is the command's, `name`.
    """
    mistakes = []
    for photo in tqdm(photos, unit="photo", disable=True if len(photos) == 1 else None):
        try:
            make(photo)
        except UserError as error:
            mistakes.append(str(error))
            if len(photos) > 1:
                print(error, file=sys.stderr)
    if len(photos) == 1 and mistakes:
        raise UserError(mistakes[0])
    if mistakes:
        raise UserError(f"{name}: {len(mistakes)} of {len(photos)} photographs were left out.")


def open_photo(
    config: PhotosConfig, path: Path, estimate: DepthEstimator
) -> tuple[Photo, SceneDepth | None]:
    """Read a photograph, and its depth from where the options say; None for `--depth none`."""
    if path == EXAMPLE:
        return example_photo()
    photo = read_photo(path)
    return photo, None if config.depth == "none" else depth_of(config, path, photo, estimate)


def _deblur_file(config: LensConfig, path: Path, outputs: Outputs, deblur: Deblurrer) -> None:
    """Read one photograph, restore it, write it; its depth is not needed."""
    photo = example_photo()[0] if path == EXAMPLE else read_photo(path)
    (output,) = outputs.stills
    with tile_bar(output.name) as on_tile:
        write_photo(deblur(photo, on_tile), output)
    height, width = photo.size
    print(f"{output}: {width}x{height}, deblurred")
    finish_photo(config, path, outputs, [], (*photo.notes, *lost_in(photo, output)))


def _photograph_file(
    config: LensConfig,
    path: Path,
    variants: Sequence[Variant],
    outputs: Outputs,
    networks: Networks,
) -> None:
    """Read one photograph, render each variant, write the pictures and the animation."""
    photo, depth = open_photo(config, path, networks.estimate)
    if depth is None:
        raise UserError("--depth: a lens needs depth; give FILE, auto or plane.")
    # What is out of focus is restored once for all variants
    if networks.deblur:
        with tile_bar(f"{path.name}, deblurring") as on_tile:
            photo = networks.deblur(photo, on_tile)
    frames = []
    for variant, output in zip(variants, outputs.stills, strict=True):
        # Blur
        radius_px, taken = radius_of(config, photo, depth, variant)
        picture = _rendered(config, photo, radius_px, output.name)
        # Write
        write_photo(picture, output)
        if outputs.animation:
            frames.append(frame_of(picture.to_srgb(), radius_px if config.mark_focus else None))
        height, width = photo.size
        largest_px = float(radius_px.abs().max())
        print(f"{output}: {width}x{height}, {taken}, largest blur radius {largest_px:.1f} px")
    notes = (*photo.notes, *lost_in(photo, outputs.stills[0]), *_beyond(config, depth))
    finish_photo(config, path, outputs, frames, notes)


def finish_photo(
    config: PhotosConfig,
    path: Path,
    outputs: Outputs,
    frames: Sequence[Tensor],
    notes: Sequence[str],
) -> None:
    """Write a photograph's animation, if it has one, and say what could not be kept."""
    if outputs.animation and config.animate:
        write_bytes(outputs.animation, encode_animation(frames, config.animate))
        print(f"{outputs.animation}: {len(frames)} pictures")
    for note in notes:
        print(f"{path}: note: {note}.", file=sys.stderr)


def _beyond(config: LensConfig, depth: SceneDepth) -> list[str]:
    """A note for each point whose place on the plane is the horizon or beyond it."""
    if config.depth != "plane":
        return []
    return [
        f"--focus {x:g},{y:g} lies beyond the plane's far end, so the focus is at infinity; a "
        "plane suits the ground, or give --plane two points on what should be sharp"
        for x, y in config.focus
        if depth.at((x, y)) == 0
    ]


def depth_of(
    config: PhotosConfig, path: Path, photo: Photo, estimate: DepthEstimator
) -> SceneDepth:
    """The photograph's depth, from where the options say."""
    if config.depth == "plane":
        return plane_depth(*config.plane, photo.size)
    if config.depth == "auto":
        depth = estimate(photo.to_srgb())
    else:
        depth = read_depth(_depth_map(config, path), config.depth_kind, photo.size)
    return depth.with_hard_edges() if config.depth_edges == "snap" else depth


def _depth_map(config: PhotosConfig, path: Path) -> Path:
    """The file that `--depth` names, or a photograph's map in its folder."""
    named = Path(config.depth)
    if not named.is_dir():
        return named
    maps = [named / f"{path.stem}{extension}" for extension in DEPTH_EXTENSIONS]
    found = [each for each in maps if each.exists()]
    if not found:
        raise UserError(f"{named}: --depth: there is no {path.stem}.png or .npy for {path}.")
    return found[0]


@contextmanager
def tile_bar(name: str) -> Iterator[OnTile]:
    """A progress bar of the tiles of a photograph."""
    with tqdm(desc=name, unit="tile", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        yield show


def _rendered(config: LensConfig, photo: Photo, radius_px: Tensor, name: str) -> Photo:
    """Blur a photograph with a progress bar."""
    with tile_bar(name) as on_tile:
        return blurred_photo(
            photo, radius_px, config.method, on_tile, aperture=config.aperture, gamma=config.gamma
        )
