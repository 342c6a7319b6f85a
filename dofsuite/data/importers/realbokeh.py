"""RealBokeh_3MP: each scene at f/22 and at some wider apertures, with distance and focal length.

Traps: scene ids restart in every split, so a scene is one id of one split; files are `.JPG`; the
f-numbers of a scene's targets differ from scene to scene; what counts as sharp is the photograph at
f/22, whose near foreground may not be.
"""

from pathlib import Path
from typing import Any

from dofsuite.data.importers.aperture_scenes import ApertureScene, find_scenes
from dofsuite.data.importers.data_set import DataSet, Found, Photograph, RealPair, Split, slug
from dofsuite.data.packing.match_files import Pair
from dofsuite.errors import UserError
from dofsuite.files import parse_json, read_bytes

SPLITS: dict[str, Split] = {"train": "train", "validation": "val", "test": "test"}


def find(folder: Path) -> Found:
    """Read `SPLIT/in/ID_f22.JPG`, `SPLIT/gt/ID/ID_fN.JPG` and `SPLIT/metadata/ID.json`.

    Raises:
        UserError: There are no such scenes.
    """
    found, faults = find_scenes(folder), list[str]()
    photographs: list[Photograph] = []
    pairs: list[RealPair] = []
    for scene in found.scenes:
        try:
            photograph, own = read_scene(folder, scene)
        except UserError as error:
            faults.append(str(error).rstrip("."))
            continue
        photographs.append(photograph)
        pairs += own
    left_out = {"photographs without a partner": len(found.alone)} if found.alone else {}
    return Found(photographs, pairs, left_out, faults)


def read_scene(folder: Path, scene: ApertureScene) -> tuple[Photograph, list[RealPair]]:
    """Return a scene's photograph at the smallest aperture, and its pairs with the others.

    Raises:
        UserError: It lies in no split, or its metadata are missing or say something else.
    """
    # Split and metadata
    *parents, number = scene.key.split("/")
    place = next((place for place in parents if place in SPLITS), None)
    if place is None:
        raise UserError(
            f"{folder}: realbokeh: {scene.key} lies in none of train/, validation/ and test/; name "
            "the folder that holds them."
        )
    metadata = read_metadata(folder.joinpath(*parents, "metadata", f"{number}.json"))
    # All apertures, the smallest first
    cameras = {f_number: camera_of(metadata, f_number) for f_number in scene.files}
    narrow, name = max(cameras), slug(scene.key)
    facts = {"scene": scene.key, "camera": cameras[narrow]}
    photograph = Photograph(Pair(name, scene.files[narrow], None), SPLITS[place], facts)
    return photograph, [
        RealPair(
            slug(f"{name}_f{f_number:g}"),
            name,
            SPLITS[place],
            scene.files[narrow],
            scene.files[f_number],
            cameras[narrow],
            camera,
        )
        for f_number, camera in cameras.items()
        if f_number != narrow
    ]


def read_metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = parse_json(read_bytes(path))
        float(metadata["focal_length"])
        float(metadata["focus_plane_distance"])
        return metadata
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: it does not say focal_length and focus_plane_distance ({error}); copy the "
            "file again."
        ) from error


def camera_of(metadata: dict[str, Any], f_number: float) -> dict[str, float]:
    # The distance is in meters, with the uncertainty of the measurement
    camera = {
        "f_number": f_number,
        "focal_length_mm": float(metadata["focal_length"]),
        "focus_m": float(metadata["focus_plane_distance"]),
    }
    uncertainty = metadata.get("focus_plane_uncertainty", metadata.get("uncertainty"))
    return camera if uncertainty is None else camera | {"focus_uncertainty_m": float(uncertainty)}


DATA_SET = DataSet(
    name="realbokeh",
    title="RealBokeh_3MP",
    licence="CC BY-NC-SA 4.0",
    source="Seizinger et al., Bokehlicious, ICCV 2025; on the hub: timseizinger/RealBokeh_3MP",
    find=find,
    refuses={"product": "NC allows no commercial use"},
)
