"""What a training needs of every sample, checked by the manifest's counts."""

from collections.abc import Mapping

from dofsuite.data.decode import decode_json
from dofsuite.data.sample_record import has_old_exif
from dofsuite.data.shards import ShardReader
from dofsuite.errors import UserError

# Option -> the manifest's count of samples that meet it; what is missing and the fix.
REQUIREMENTS = {
    "require_depth": (
        "samples_with_depth",
        "depth map: put a depth map of the same stem next to each image (or name their folder with "
        "--depth)",
    ),
    "require_captions": (
        "samples_with_caption",
        "caption: put a .txt file of the same stem next to each image",
    ),
    "require_exif": (
        "samples_with_exif",
        "EXIF of f-number, focal length and sensor width: use files as the camera wrote them "
        "(--require-exif leaves out the others)",
    ),
}


def check_samples(reader: ShardReader, key: str, folder: str, required: Mapping[str, bool]) -> None:
    """Check that all samples of a set have what is required.

    Raises:
        UserError: Depth, captions or EXIF are missing, or the EXIF is from before sensor widths
            were read; `key` and `folder` are named.
    """
    # What the model needs of every sample
    manifest = reader.manifest
    for option, (count, fix) in REQUIREMENTS.items():
        missing = manifest.samples - getattr(manifest, count)
        if required[option] and missing:
            raise UserError(
                f"{key}: {missing} of {manifest.samples} samples in {folder} have no {fix} and "
                "pack again with python -m dofsuite.data pack; only for a model that does "
                f"without, set data.{option} to false."
            )
    # EXIF of older shards would blur wrongly by the crop factor.
    if required["require_exif"]:
        sample = reader.read(0)
        name = f"{sample.shard}: {sample.key}.json"
        if has_old_exif(decode_json(sample.members.get("json", b"{}"), name)):
            raise UserError(
                f"{key}: {folder} was packed when sensor widths were not read, so its EXIF "
                "does not tell how large blur is: pack its photographs again with python -m "
                "dofsuite.data pack."
            )
