"""Which of two runs generates photographs more like a set of photographs?

    python -m dofsuite.evaluate text2image --interval runs/DEEP runs/FULL -o runs/interval

KID and FID of both, with a bootstrap interval of the difference. Both get the same prompts, the
same noise, and the same depth model, focus predictor and lens (the second one's), so that nothing
but the generator differs.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics.image.kid import poly_mmd
from tqdm import tqdm

from dofsuite.data import Batch, ShardReader
from dofsuite.data.batch import collate
from dofsuite.data.dataset import HeldOutSamples
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError
from dofsuite.evaluation.report import write_report
from dofsuite.evaluation.tables import Number, Table
from dofsuite.evaluation.text2image.config import Text2ImageConfig
from dofsuite.evaluation.text2image.features import (
    ReferenceFeatures,
    SmallFeatures,
    frechet_distance,
)
from dofsuite.text2image import Exif, Text2ImagePipeline

# What is compared with by default: the held-out Shallow set.
PHOTOGRAPHS = "synthetic:shallow_val"
# Noises, each with a row of its own.
NUM_SEEDS = 3
# Bootstrap samples of the interval.
NUM_RESAMPLES = 200
INTERVAL = (0.025, 0.975)

DISTANCES: dict[str, Callable[[Tensor, Tensor], float]] = {
    # The unbiased squared MMD of all images at once (arXiv 1801.01401, eq. 4)
    "KID": lambda real, fake: float(poly_mmd(real, fake)),
    "FID": frechet_distance,
}


def write_interval(config: Text2ImageConfig) -> list[Path]:
    """Compare two runs and write the report; return its files.

    Raises:
        UserError: A folder holds no generator, the second has no lens, or the set cannot be used.
    """
    # Runs, and the photographs' features
    first, second = (Text2ImagePipeline.from_export(folder) for folder in config.interval)
    if second.lens is None:
        raise UserError(f"{config.interval[1]}: it has no lens; name a run with one.")
    photographs = config.photographs or PHOTOGRAPHS
    reader = ShardReader(prepare(photographs))
    manifest = reader.manifest
    if min(manifest.samples_with_caption, manifest.samples_with_exif) < manifest.samples:
        raise UserError(
            f"{photographs}: --photographs: every photograph needs a caption and EXIF; name "
            "another set."
        )
    samples = HeldOutSamples(reader, second.config.size_px)
    batches = list(DataLoader(samples, batch_size=64, collate_fn=collate))
    extract = SmallFeatures()
    raw = torch.cat([extract(batch.image_srgb) for batch in batches])
    reference = ReferenceFeatures.from_raw(raw, "small", len(raw))

    # One row a seed
    rows: dict[str, dict[str, Number]] = {}
    for seed in range(config.seed, config.seed + NUM_SEEDS):
        fakes = []
        for pipe in (first, second):
            images = photograph_captions(pipe, second, batches, seed)
            fakes.append(reference.project(torch.cat([extract(batch) for batch in images])))
        rows[f"seed {seed}"] = compare(fakes[0], fakes[1], reference.features, seed)

    # Report
    facts = {
        "first": config.interval[0].as_posix(),
        "second": config.interval[1].as_posix(),
        "photographs": f"{len(raw)} of {photographs}",
        "features": f"small, {reference.features.shape[1]} main directions, whitened",
        "interval": f"of second minus first, 95 %, {NUM_RESAMPLES} bootstrap samples",
    }
    table = Table(
        "KID and FID of two runs through one lens",
        tuple(rows[f"seed {config.seed}"]),
        [(name, list(values.values())) for name, values in rows.items()],
    )
    return write_report(config.output, "Two runs through one lens", [table], [], facts)


def photograph_captions(
    generator: Text2ImagePipeline, lens: Text2ImagePipeline, batches: Sequence[Batch], seed: int
) -> Iterator[Tensor]:
    # Generate images of the captions, and yield the lens's photographs of them at their EXIF
    assert lens.lens is not None
    # The bar shows on a terminal only
    for number, batch in enumerate(tqdm(batches, desc=f"seed {seed}", disable=None)):
        noise = torch.Generator().manual_seed(seed * len(batches) + number)
        images = generator(batch.caption, generator=noise, output_type="pt").image_srgb
        scene, exif = lens.scene(images, "pt"), Exif(batch.f_number, batch.focal_length_mm)
        yield lens.lens.photograph(scene, exif, batch.width_px, batch.sensor_width_mm).clamp(0, 1)


def compare(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], real: Float[Tensor, "n d"], seed: int
) -> dict[str, Number]:
    """Return both runs' distances and the 95 % bootstrap interval of second minus first.

    A resample draws prompts (the same for both runs) and photographs with replacement.
    """
    # Differences of the resamples
    generator = torch.Generator().manual_seed(seed)
    differences: dict[str, list[float]] = {name: [] for name in DISTANCES}
    for _ in range(NUM_RESAMPLES):
        i = torch.randint(len(first), (len(first),), generator=generator)
        j = torch.randint(len(real), (len(real),), generator=generator)
        for name, distance in DISTANCES.items():
            differences[name].append(distance(real[j], second[i]) - distance(real[j], first[i]))

    # Distances and the interval's ends, by column
    values: dict[str, Number] = {}
    for name, distance in DISTANCES.items():
        low, high = torch.tensor(differences[name]).quantile(torch.tensor(INTERVAL)).tolist()
        values |= {f"{name} first": distance(real, first), f"{name} second": distance(real, second)}
        values |= {f"{name} difference, low": low, f"{name} difference, high": high}
    return values
