"""Photographs with planted faults, each with the rule that it is planted for."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dofsuite.exif import EXIF_IFD


class Planted(NamedTuple):
    """A photograph: its set, the rule that is to reject it (None: kept)."""

    set: str
    rule: str | None


def texture(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    """A random scene: coarse blobs, which tell hashes apart, under fine grain."""
    draws = np.random.default_rng(seed)
    coarse = Image.fromarray(draws.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = draws.integers(-20, 21, (height, width, 1))
    return Image.fromarray((image + grain).clip(0, 255).astype(np.uint8))


def exif_bytes(number: int, camera: dict[str, object]) -> bytes:
    """EXIF as cameras write it; None leaves a tag out."""
    values: dict[str, object] = {
        "make": "Canon",
        "model": "Canon EOS 5D",
        "f_number": 2.8,
        "exposure_s": 1 / 250,
        "focal_length_mm": 50.0,
        "equivalent_mm": 50,
        "taken": f"20{10 + number // 8000:02d}:{1 + number // 672 % 12:02d}:"
        f"{1 + number // 24 % 28:02d} {number % 24:02d}:00:00",
        **camera,
    }
    exif = Image.Exif()
    ifd = exif.get_ifd(EXIF_IFD)
    for tag, key in ((0x010F, "make"), (0x0110, "model")):
        if values[key] is not None:
            exif[tag] = values[key]
    tags = {
        0x829D: "f_number",
        0x829A: "exposure_s",
        0x920A: "focal_length_mm",
        0xA405: "equivalent_mm",
        0x9003: "taken",
    }
    for tag, key in tags.items():
        if values[key] is not None:
            ifd[tag] = values[key]
    return exif.tobytes()


def jpeg(
    number: int,
    camera: dict[str, object] | None,
    image: Image.Image | None = None,
    quality: int = 92,
) -> bytes:
    """A JPEG; without a camera it has no EXIF."""
    file = io.BytesIO()
    image = image or texture(number)
    exif = {} if camera is None else {"exif": exif_bytes(number, camera)}
    image.save(file, "JPEG", quality=quality, **exif)
    return file.getvalue()


SHALLOW, DEEP = {"f_number": 2.8}, {"f_number": 16.0}
# How many, the camera, the set and the rule; answers differ from a good photograph's where given.
PLANS: list[tuple[int, dict[str, object] | None, str, str | None, dict[str, str]]] = [
    (26, SHALLOW, "shallow", None, {}),
    (26, DEEP, "deep", None, {}),
    (3, {"f_number": 9.9}, "shallow", None, {}),
    (3, {"f_number": 10.0}, "deep", None, {}),
    (2, {"f_number": 50.0}, "deep", None, {}),
    (3, {"f_number": 16.0, "exposure_s": 0.1}, "deep", None, {}),
    (4, {"f_number": 1.4, "exposure_s": 2.0}, "shallow", None, {}),
    (14, None, "neither", "exif", {}),
    (5, {"f_number": 64.0}, "neither", "aperture", {}),
    (5, {"f_number": None}, "neither", "aperture", {}),
    (6, {"f_number": 1.8, "make": "Apple", "model": "iPhone 12"}, "shallow", "device", {}),
    (4, {"f_number": 1.8, "make": "samsung", "model": "SM-S918B"}, "shallow", "device", {}),
    (3, {"f_number": 2.0, "make": "Sony", "model": "G8341"}, "shallow", "device", {}),
    (2, {"f_number": 2.8, "make": None, "model": None}, "shallow", "device", {}),
    (3, {"f_number": 2.8, "make": "SAMSUNG", "model": "NX500"}, "shallow", None, {}),
    (3, {"f_number": 2.8, "make": "SONY", "model": "ILCE-7M3"}, "shallow", None, {}),
    (10, {"f_number": 16.0, "exposure_s": 0.5}, "deep", "exposure", {}),
    (2, {"f_number": 16.0, "exposure_s": 0.125}, "deep", "exposure", {}),
    (3, {"f_number": 16.0, "exposure_s": None}, "deep", "exposure", {}),
    (6, {"f_number": 2.8, "equivalent_mm": None}, "shallow", "optics", {}),
    (4, {"f_number": 16.0, "focal_length_mm": None}, "deep", "optics", {}),
    (8, SHALLOW, "shallow", "blur", {"blur": "none"}),
    (6, SHALLOW, "shallow", "blur", {"blur": "undesirable"}),
    (6, DEEP, "deep", "blur", {"blur": "desirable"}),
    (6, DEEP, "deep", "blur", {"blur": "undesirable"}),
    (6, SHALLOW, "shallow", "photograph", {"photograph": "No, it is an illustration."}),
    (4, DEEP, "deep", "photograph", {"photograph": "no"}),
    (2, DEEP, "deep", "photograph", {"photograph": "It may be one."}),
]


def plant(folder: Path, captions: bool = True) -> tuple[dict[str, Planted], Path]:
    """Write 200 photographs, and the answers of all networks.

    Returns:
        What is planted, by name, and the file of answers.
    """
    (folder / "photos").mkdir(parents=True)
    truth: dict[str, Planted] = {}
    answers = []

    def add(data: bytes, planted: Planted, differing: dict[str, str] | None = None) -> str:
        number = len(truth)
        name = f"{number * 7919 % 200:03d}_{planted.rule or 'good'}.jpg"
        (folder / "photos" / name).write_bytes(data)
        truth[f"photos/{name}"] = planted
        good = {"blur": "desirable" if planted.set == "shallow" else "none", "photograph": "yes"}
        caption = {"caption": f"scene {number}"} if captions else {}
        answers.append({"name": f"photos/{name}", **good, **caption, **(differing or {})})
        return f"photos/{name}"

    for count, camera, set_name, rule, differing in PLANS:
        for _ in range(count):
            add(jpeg(len(truth), camera), Planted(set_name, rule), differing)

    # Files: too small, truncated, and no image at all
    for _ in range(4):
        small = texture(len(truth), 42, 28)
        add(jpeg(len(truth), SHALLOW, small), Planted("shallow", "resolution"))
    for _ in range(5):
        data = jpeg(len(truth), DEEP)
        add(data[: len(data) * 2 // 3], Planted("deep", "decodes"))
    for _ in range(4):
        add(b"<html>not found</html>" * 20, Planted("neither", "readable"))

    # Copies of good photographs: the same bytes, and smaller ones of the same scene
    originals = [texture(number, 192, 128) for number in range(1000, 1005)]
    for number, original in enumerate(originals):
        add(jpeg(500 + number, SHALLOW, original), Planted("shallow", None))
        copy = original.resize((96, 64), Image.Resampling.LANCZOS)
        add(jpeg(600 + number, SHALLOW, copy, 75), Planted("shallow", "duplicate"))
    data = jpeg(700, DEEP)
    names = [add(data, Planted("deep", None)), add(data, Planted("deep", None))]
    truth[max(names)] = Planted("deep", "duplicate")
    assert len(truth) == 200, len(truth)

    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    return truth, path
