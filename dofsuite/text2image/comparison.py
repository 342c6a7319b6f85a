"""Which of two generators photographs more like a set of photographs? KID and FID, with an interval for the difference.

Both generators get the same prompts, the same noise, and the same depth model, focus predictor and
lens (the second one's), so that nothing but the generator differs.

python -m dofsuite.text2image.comparison runs/DEEP runs/FULL -o comparison.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from dofsuite.backbones import SmallSaliency
from dofsuite.cli import Parser, run_command_line
from dofsuite.data import Batch, ShardReader
from dofsuite.data.batch import collate
from dofsuite.data.dataset import HeldOutSamples
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError
from dofsuite.files import write_json
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.pipeline import Text2ImagePipeline

DIRECTIONS = 48
"""Main directions of the photographs' own features that are compared; few, so that 2000 pictures fix a covariance."""
RESAMPLES = 200
"""Bootstrap samples of the interval."""
INTERVAL = (0.025, 0.975)


class Distances(NamedTuple):
    """How far pictures are from photographs."""

    kid: float
    fid: float


class Features:
    """Pictures [b, 3, h, w] in [0, 1] -> [b, n]: mean and deviation over places of the saliency stand-in's last tokens.

    FID's own network needs torchvision and was made for pictures of 299 px; the stand-in knows the
    synthetic scenes.
    """

    def __init__(self) -> None:
        self.network = SmallSaliency().load()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Look at pictures."""
        seen: list[Tensor] = []
        handle = self.network.network.backbone.encoder.register_forward_hook(
            lambda module, args, output: seen.append(
                output[0] if isinstance(output, tuple) else output.last_hidden_state
            )
        )
        try:
            self.network(images)
        finally:
            handle.remove()
        return torch.cat([seen[0].mean(dim=1), seen[0].std(dim=1)], dim=1).double()


def main_directions(
    features: Float[Tensor, "n d"], count: int = DIRECTIONS
) -> Float[Tensor, "d k"]:
    """Return the `count` directions in which features vary most, scaled so that each varies by 1."""
    centred = features - features.mean(dim=0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    return directions[:count].T / (values[:count] / len(features) ** 0.5)


def kid(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Unbiased squared MMD with the kernel (x y / d + 1)^3 (arXiv 1801.01401, eq. 4), over all pictures at once."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def among(a: Tensor) -> Tensor:
        k = kernel(a, a)
        return (k.sum() - k.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(among(x) + among(y) - 2 * kernel(x, y).mean())


def fid(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)), the Frechet distance of Gaussians (arXiv 1706.08500)."""
    c_x, c_y = torch.cov(x.T), torch.cov(y.T)
    roots = torch.linalg.eigvals(c_x @ c_y).real.clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + c_x.trace() + c_y.trace() - 2 * roots)


def photographed(
    generator: Text2ImagePipeline, lens: Text2ImagePipeline, batches: Sequence[Batch], seed: int
) -> Iterator[Tensor]:
    """Yield photographs of what `generator` makes of the captions, by `lens`'s focus and lens and the batches' EXIF."""
    for number, batch in enumerate(
        tqdm(batches, desc=f"seed {seed}", disable=not sys.stderr.isatty())
    ):
        noise = torch.Generator().manual_seed(seed * len(batches) + number)
        scene = lens.scene(
            generator(batch.caption, generator=noise, output_type="pt").image_srgb, "pt"
        )
        exif = Exif(batch.f_number, batch.focal_length_mm)
        yield lens.lens.photograph(
            scene.image_srgb,
            scene.depth,
            scene.focus_distance,
            scene.scale_mm,
            exif,
            batch.width_px,
        ).clamp(0, 1)


def compared(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], real: Float[Tensor, "m d"], seed: int
) -> dict[str, object]:
    """Return both generators' distances and the 95 % bootstrap interval of second minus first.

    A resample draws prompts (the same for both generators) and photographs with replacement.
    """
    values: dict[str, object] = {}
    draws = torch.Generator().manual_seed(seed)
    differences: dict[str, list[float]] = {"kid": [], "fid": []}
    for _ in range(RESAMPLES):
        i = torch.randint(len(first), (len(first),), generator=draws)
        j = torch.randint(len(real), (len(real),), generator=draws)
        for name, distance in (("kid", kid), ("fid", fid)):
            differences[name].append(distance(second[i], real[j]) - distance(first[i], real[j]))
    for name, distance in (("kid", kid), ("fid", fid)):
        low, high = torch.tensor(differences[name]).quantile(torch.tensor(INTERVAL)).tolist()
        values[name] = {
            "first": distance(first, real),
            "second": distance(second, real),
            "second_minus_first": [low, high],
        }
    return values


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(
        "text2image.comparison",
        "Which of two generators photographs more like a set of photographs?",
    )
    parser.add_argument("first", type=Path, help="a run or export, such as the deep stage's")
    parser.add_argument(
        "second", type=Path, help="another one; its focus predictor and lens serve both"
    )
    parser.add_argument(
        "--set", default="synthetic:shallow_val", help="shards of photographs; default %(default)s"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the noise")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Compare two generators and write the numbers.

    Raises:
        UserError: A folder holds no generator, the second has no lens, or the set cannot be used.
    """
    first, second = (
        Text2ImagePipeline.from_export(folder) for folder in (arguments.first, arguments.second)
    )
    if second.lens is None:
        raise UserError(f"{arguments.second}: it has no lens; name a run with one.")
    batches = held_out(arguments.set, second.config.size_px)
    look = Features()
    raw = torch.cat([look(batch.image_srgb) for batch in batches])
    mean, directions = raw.mean(dim=0), main_directions(raw)
    real = (raw - mean) @ directions  # KID's kernel, unlike FID, knows where the origin is
    seeds = {}
    for seed in arguments.seeds:
        made = [
            (
                torch.cat(
                    [look(pictures) for pictures in photographed(pipe, second, batches, seed)]
                )
                - mean
            )
            @ directions
            for pipe in (first, second)
        ]
        seeds[str(seed)] = compared(*made, real, seed)
        print(f"seed {seed}: {seeds[str(seed)]}", flush=True)
    write_json(
        arguments.output, {"pictures": len(raw), "dimensions": directions.shape[1], "seeds": seeds}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    return run_command_line(run, parser(), argv)


def held_out(folder: str, size_px: int) -> list[Batch]:
    """Return all batches of a set of photographs.

    Raises:
        UserError: The shards are not whole, or lack captions or EXIF.
    """
    reader = ShardReader(prepare(folder))
    manifest = reader.manifest
    if min(manifest.samples_with_caption, manifest.samples_with_exif) < manifest.samples:
        raise UserError(
            f"{folder}: --set: every photograph needs a caption and EXIF; name another set."
        )
    return list(DataLoader(HeldOutSamples(reader, size_px), batch_size=64, collate_fn=collate))


if __name__ == "__main__":
    raise SystemExit(main())
