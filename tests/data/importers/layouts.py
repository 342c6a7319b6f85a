"""Tiny copies of published data sets in the layouts in which they are published.

Sources of the layouts: RealBokeh_3MP: the loader of TimSeizinger/Bokehlicious (dataset/loader.py)
and the metadata's keys as the hub's files have them; EBB!: Training/original and Training/bokeh;
HDR+: gs://hdrplusdata's results_20171023; DPDD: the loaders of DRBNet and of the authors; BLB: the
loader of FreeButUselessSoul/bokehdiff; LFDOF: inferred from the names that a copy on the hub keeps
(lfdof_train_data_1275_level_1).
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = (36, 24)


def picture(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return Image.fromarray(values.repeat(4, 0).repeat(4, 1))


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix == ".png" else "JPEG"
    picture(seed).save(path, kind)


def save_ebb(root: Path, numbers: tuple[int, ...] = (7, 4399, 4400, 4693)) -> None:
    for number in numbers:
        save(root / "Training" / "original" / f"{number}.jpg", number)
        save(root / "Training" / "bokeh" / f"{number}.jpg", number + 1)
    save(root / "Training" / "original" / "9999.jpg", 9)


def save_realbokeh(root: Path) -> None:
    """Scene 1 is in every split, another place each time."""
    for index, split in enumerate(("train", "validation", "test")):
        apertures = [2.0, 5.6]
        save(root / split / "in" / "1_f22.JPG", index)
        for aperture in apertures:
            save(root / split / "gt" / "1" / f"1_f{aperture}.JPG", index + 10)
        metadata = {
            "id": 1,
            "source_image": "in/1_f22.JPG",
            "source_av": 22.0,
            "target_images": [f"gt/1/1_f{aperture}.JPG" for aperture in apertures],
            "target_avs": apertures,
            "focal_length": 50.0,
            "focus_plane_distance": 1.5 + index,
            "focus_plane_uncertainty": 0.05,
        }
        (root / split / "metadata").mkdir(parents=True)
        (root / split / "metadata" / "1.json").write_text(json.dumps(metadata))


def save_hdr_plus(root: Path) -> None:
    for day in range(1, 29):
        for second in (1, 2):
            burst = f"33TJ_201501{day:02d}_20150{second}_012"
            save(root / "20171106" / "results_20171023" / burst / "final.jpg", day)
    folder = root / "20171106" / "bursts" / "33TJ_20150101_201501_012"
    folder.mkdir(parents=True)
    (folder / "payload_N000.dng").write_bytes(b"raw")


def save_dpdd(root: Path) -> None:
    """The names of a pair differ; values have 16 bits."""
    for split in ("train_c", "val_c", "test_c", "test_l"):
        for number, side in ((874, "target"), (875, "source"), (902, "target"), (903, "source")):
            path = root / "dd_dp_dataset_png" / split / side / f"1P0A0{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.full((24, 36, 3), number, np.uint16) * np.array([51, 60, 70], np.uint16)
            cv2.imwrite(str(path), values[..., ::-1])


def save_lfdof(root: Path) -> None:
    for split, scene in (("train_data", "1275"), ("test_data", "2464")):
        save(root / split / "ground_truth" / f"{scene}.png", int(scene))
        for level in (1, 2, 3):
            save(root / split / "input" / scene / f"{level}.png", level)


def save_blb(root: Path) -> None:
    """Light above 1, depth infinite at the top; two blurs x two distances."""
    import OpenEXR

    place = root / "277"
    place.mkdir(parents=True)
    options = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    light = np.linspace(0, 3, 24 * 36 * 3, dtype=np.float32).reshape(24, 36, 3)
    depth = np.tile(np.linspace(1, 5, 24, dtype=np.float32)[::-1, None], (1, 36))
    depth[0] = np.inf
    images = {"image": light} | {
        f"bokeh_{k:02d}_{f:02d}": light * 0.5 for k in (0, 1) for f in (0, 1)
    }
    for name, values in images.items():
        OpenEXR.File(options, {"RGB": np.ascontiguousarray(values)}).write(
            str(place / f"{name}.exr")
        )
    OpenEXR.File(options, {"V": np.ascontiguousarray(depth)}).write(str(place / "depth.exr"))
    info = {"blur_parameters": [10.0, 20.0], "focus_distances": [1.5, 4.0]}
    (place / "info.json").write_text(json.dumps(info))


def save_hugging_face(root: Path, licence: str | None = "cc0-1.0") -> None:
    for split, number in (("train", 1), ("train", 2), ("validation", 3)):
        save(root / split / f"{number}.jpg", number)
    ramp = np.tile(np.linspace(0, 65535, 36), (24, 1)).astype(np.uint16)
    (root / "train" / "depth").mkdir()
    Image.fromarray(ramp).save(root / "train" / "depth" / "1.png")
    lines = [
        {"file_name": "1.jpg", "depth_file_name": "depth/1.png", "text": "a house"},
        {"file_name": "2.jpg", "text": "a tree"},
    ]
    (root / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (root / "validation" / "metadata.csv").write_text("file_name,text\n3.jpg,a lake\n")
    if licence:
        (root / "README.md").write_text(f"---\nlicense: {licence}\n---\n# card\n")
