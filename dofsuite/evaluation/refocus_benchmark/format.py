"""The files of a refocus benchmark: a manifest with every camera and checksum, and its reader.

    benchmark.json              settings, scenes, samples, files with sha256 and size; written last
    points.csv                  the points, as a person or the seeded rule chose them; none of pairs
    images/SCENE.png            all in focus, 8 bit
    disparity/SCENE.png         16 bit, 0 far and 65535 near, min-max over the image
    rendered/SCENE/SAMPLE.png   references and targets, 8 bit

These files define everything: targets are rendered from the 8-bit image and the 16-bit disparity
stored here, so that whoever renders them again with the manifest's settings gets every value.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.data.decode import decode_depth_image
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import hash_file
from dofsuite.files import parse_json, read_bytes, write_json, write_text
from dofsuite.images import encode_png, read_image
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.rendering import Rendering

MANIFEST = "benchmark.json"
# A manifest of another number is not read.
FORMAT = 1

Task = Literal["refocus", "bokeh", "deblur"]


class Sample(NamedTuple):
    """One prediction to make, and its target. Paths are relative to the benchmark's folder."""

    # SCENE/SAMPLE, also the name of an image generated elsewhere.
    key: str
    scene: str
    task: Task
    # The image that a method gets.
    reference: str
    # The image that it should predict.
    target: str
    # (x, y) as fractions of width and height from the top left.
    focus_point: tuple[float, float]
    # Disparity at that point: the focal plane.
    focus_disparity: float
    # Pixels of blur radius per unit of disparity at the reference width; 0 is all in focus.
    bokeh_level: float

    @property
    def camera(self) -> Cameras:
        return Cameras(
            torch.tensor([self.focus_point]),
            torch.tensor([self.focus_disparity]),
            torch.tensor([self.bokeh_level]),
        )


# A scene: its name, source tag, and files relative to the benchmark's folder.
class SceneFiles(NamedTuple):
    scene: str
    source: str
    image: str
    disparity: str


class Benchmark(NamedTuple):
    folder: Path
    # Of the whole manifest, which has the checksums of all files.
    checksum: str
    # Plain data, with the three that follow.
    settings: dict[str, Any]
    rendering: Rendering
    size_px: int
    bokeh_levels: list[float]
    scenes: list[SceneFiles]
    samples: list[Sample]

    def image(self, path: str) -> Float[Tensor, "1 3 h w"]:
        return read_image(self.folder / path)[None]

    def all_in_focus(self, scene: str) -> Float[Tensor, "1 3 h w"]:
        return self.image(self._files(scene).image)

    def disparity(self, scene: str) -> Float[Tensor, "1 1 h w"]:
        """Read a scene's disparity, 0 far and 1 near."""
        path = self.folder / self._files(scene).disparity
        values = decode_depth_image(read_bytes(path), str(path))
        return torch.from_numpy(values)[None, None] / 65535  # [h, w] -> [1, 1, h, w]

    def _files(self, scene: str) -> SceneFiles:
        return next(files for files in self.scenes if files.scene == scene)


def checksum_of(manifest: dict[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != "checksum"}
    return sha256_of(json.dumps(content, sort_keys=True).encode())


def read_benchmark(folder: Path, verify: Literal["full", "size"] = "full") -> Benchmark:
    """Read a benchmark and check its files.

    Args:
        folder: What `build-benchmark` wrote.
        verify: Compare every file's checksum (a second a gigabyte), or its size only.

    Raises:
        UserError: There is no manifest, it was changed or is of another format, or a file is
            missing or changed.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise UserError(
            f"{folder}: --benchmark: holds no benchmark ({MANIFEST} is missing); make one: "
            "build-benchmark."
        )
    try:
        # The manifest
        manifest = parse_json(read_bytes(file))
        if manifest.get("format") != FORMAT:
            raise UserError(
                f"{file}: format: {manifest.get('format')} was written by another dofsuite; build "
                "it again."
            )
        if manifest.get("checksum") != checksum_of(manifest):
            raise UserError(
                f"{file}: checksum: the manifest was changed after it was written; copy the "
                "benchmark again."
            )

        # Its content, and the files that it lists
        for name, entry in manifest["files"].items():
            check_file(folder / name, entry, verify)
        settings = manifest["settings"]
        return Benchmark(
            folder,
            manifest["checksum"],
            settings,
            Rendering(**settings["rendering"]),
            settings["size_px"],
            settings["bokeh_levels"],
            [SceneFiles(**scene) for scene in manifest["scenes"]],
            [
                Sample(**sample | {"focus_point": tuple(sample["focus_point"])})
                for sample in manifest["samples"]
            ],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{file}: it lacks what a benchmark has ({error}); copy it again, or build it again."
        ) from error


def check_file(path: Path, entry: dict[str, Any], verify: Literal["full", "size"]) -> None:
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        raise UserError(
            f"{path}: the file is missing or has another size than {MANIFEST} says; copy it again."
        )
    if verify == "full" and hash_file(path) != entry["sha256"]:
        raise UserError(
            f"{path}: the file is not the one that {MANIFEST} lists; copy the benchmark again."
        )


def disparity_png(disparity: Float[Tensor, "1 1 h w"]) -> bytes:
    values = (disparity[0, 0].double().clamp(0, 1) * 65535).round().numpy()
    return encode_png(values.astype(np.uint16))


def entry_of(data: bytes) -> dict[str, Any]:
    return {"sha256": sha256_of(data), "bytes": len(data)}


def write_manifest(
    folder: Path, settings: dict[str, Any], rows: Sequence[dict[str, Any]], points: str | None
) -> Benchmark:
    """Write the manifest of complete scenes, and `points.csv` where there is one; read it back."""
    # Files with their checksums
    files = {name: entry for row in rows for name, entry in row["files"].items()}
    if points is not None:
        write_text(folder / "points.csv", points)
        files = {"points.csv": entry_of(points.encode()), **files}
    manifest = {
        "format": FORMAT,
        "settings": settings,
        "scenes": [{name: row[name] for name in SceneFiles._fields} for row in rows],
        "samples": [sample for row in rows for sample in row["samples"]],
        "files": files,
    }
    write_json(folder / MANIFEST, manifest | {"checksum": checksum_of(manifest)})
    return read_benchmark(folder, "size")
