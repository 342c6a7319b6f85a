"""Exports of both works, as small as they can be."""

from pathlib import Path

from tests.refocus.tiny import tiny_module as refocus_module
from tests.text2image.tiny_run import tiny_module as text2image_module
from tests.text2image.tiny_run import untrained_depth


def export_refocus(folder: Path) -> Path:
    module = refocus_module()
    module.trained_size_px = 32
    folder.mkdir(parents=True)
    module.export(folder)
    return folder


def export_text2image(folder: Path, **options) -> Path:
    depth = folder / "depth"
    depth.mkdir(parents=True)
    text2image_module(untrained_depth(depth), **options).export(folder / "export")
    return folder
