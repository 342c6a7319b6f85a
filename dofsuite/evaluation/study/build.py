"""The videos of a human study (supplement E, Figure A7).

    python -m dofsuite.evaluate study build NAME=FOLDER... -o DIR

A video for each method and prompt, of one size: the images at rising f-numbers, half a second each
(*ours*), from the first to the last. Videos that are there are not encoded again. The names of the
videos say nothing of the method.

For each prompt also the wrong video of an attention check: at every aperture another scene, from
the largest f-number to the smallest. Nobody who looks takes it for the one that preserves the scene
(*ours*; the paper states no checks).
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.evaluation.job import progress
from dofsuite.evaluation.statistics import wilson_interval
from dofsuite.evaluation.study.config import BuildConfig
from dofsuite.evaluation.study.sources import (
    Method,
    hash_images,
    image_files,
    read_methods,
    read_prompt_names,
)
from dofsuite.evaluation.study.statistics import detectable_rate
from dofsuite.evaluation.study.study import FRAMES_PER_SECOND, Study, open_or_create
from dofsuite.files import write_bytes
from dofsuite.images import center_crop, read_image, resize
from dofsuite.photography.animation import encode_animation

# The least rate at which the paper's participants preferred its method to a baseline (*stated*).
PAPER_RATE = 0.83
# Of the printed power (*ours*).
LEVEL, POWER = 0.05, 0.8


def run(config: BuildConfig) -> None:
    if importlib.util.find_spec("av") is None:
        raise UserError("study build: encoding videos needs PyAV: pip install av.")
    # What is compared, all of it there
    methods = read_methods(config.sources, config.ours)
    prompts = read_prompt_names(methods[0], config.count)
    hashes = {each.name: hash_images(each, prompts, config.f_numbers) for each in methods}
    first = image_files(methods[0], prompts[0], config.f_numbers)[0]
    height, width = video_size(read_image(first), config.size_px)
    settings = {
        "ours": methods[0].name,
        "baselines": [method.name for method in methods[1:]],
        "prompts": prompts,
        "f_numbers": list(config.f_numbers),
        "width_px": width,
        "height_px": height,
        "votes": config.votes,
    }
    study = open_or_create(config.output, settings, hashes)

    # Videos that are missing
    write_videos(study, methods)
    print(*summary(study, config.participants), sep="\n", flush=True)


def video_size(image: Tensor, long_side_px: int) -> tuple[int, int]:
    """Return height and width, even, of [3, h, w] scaled to a long side."""
    height, width = image.shape[-2:]
    scale = long_side_px / max(height, width)
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def write_videos(study: Study, methods: Sequence[Method]) -> None:
    missing = set(study.missing_videos)
    jobs = {
        name: (method, prompt)
        for method, by_prompt in study.names.items()
        for prompt, name in by_prompt.items()
        if name in missing
    }
    by_name = {method.name: method for method in methods}
    cropped = 0
    # Methods in order; of a check, the frames are of other prompts and in falling order
    for name in progress(list(jobs), "videos"):
        method, prompt = jobs[name]
        if method in by_name:
            files = image_files(by_name[method], prompt, study.f_numbers)
        else:
            files = check_files(study, methods[0], prompt)
        images = [read_image(file) for file in files]
        frames = [fit(image, study.height_px, study.width_px) for image in images]
        cropped += sum(is_cropped(image, study) for image in images)
        video = encode_animation(frames, "mp4", False, FRAMES_PER_SECOND)
        write_bytes(study.path(name), video)
    if cropped:
        print(f"{cropped} images have another shape than the videos: they are center-cropped.")


def check_files(study: Study, ours: Method, prompt: str) -> list[Path]:
    """Return the frames of a check's wrong video: image k is of the k-th prompt after `prompt`."""
    others = [each for each in study.prompts if each != prompt]
    first = study.prompts.index(prompt)
    files = []
    for k, f_number in enumerate(reversed(study.f_numbers)):
        other = others[(first + k) % len(others)]
        files += image_files(ours, other, [f_number])
    return files


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """Scale [3, h, w] so that it covers a size, and crop its center."""
    scale = max(height / image.shape[-2], width / image.shape[-1])
    rows, columns = (
        max(least, round(side * scale))
        for side, least in zip(image.shape[-2:], (height, width), strict=True)
    )
    return center_crop(resize(image, rows, columns), height, width)


def is_cropped(image: Tensor, study: Study) -> bool:
    # Rounding to even sides is none
    ratio = image.shape[-1] / image.shape[-2] * study.height_px / study.width_px
    return abs(math.log(ratio)) > 4 / min(study.height_px, study.width_px)


def summary(study: Study, participants: int) -> list[str]:
    """Say what was built, and before any answer, what it can show."""
    votes = participants * study.votes
    # Baselines' counts differ by at most one
    each = votes / len(study.baselines)
    low, high = wilson_interval(PAPER_RATE * each, each)
    half_low, half_high = wilson_interval(each / 2, each)
    level = LEVEL / len(study.baselines)
    rate = detectable_rate(int(each), level, POWER)
    found = "no rate" if rate is None else f"a rate of {rate:.0%}"
    return [
        f"{study.folder}: {study.ours} against {', '.join(study.baselines)}; "
        f"{len(study.prompts)} prompts (the paper: 25), {len(study.f_numbers)} apertures, videos "
        f"of {study.width_px} x {study.height_px} px.",
        f"Power: {participants} participants with {study.votes} votes each give "
        f"{each:.0f} votes for each of {len(study.baselines)} baselines.",
        f"  The paper's 83 % would have the 95 % interval [{low:.1%}, {high:.1%}], "
        f"50 % [{half_low:.1%}, {half_high:.1%}] (half-widths {(high - low) / 2:.1%}, "
        f"{(half_high - half_low) / 2:.1%}).",
        f"  {found.capitalize()} differs from 50 % in {POWER:.0%} of such studies (exact test at "
        f"{LEVEL:.0%} after Bonferroni).",
        f"Next: python -m dofsuite.evaluate study serve {study.folder}",
    ]
