"""The options of `python -m dofsuite.curate`; light, so that `--help` needs no torch."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dofsuite.cli import option
from dofsuite.curation.choice import DEFAULT_CAPTIONER, DEFAULT_VLM, NO_NETWORK, Choice
from dofsuite.curation.inputs import TarCache
from dofsuite.curation.merge_settings import MergeSettings
from dofsuite.curation.rules import Purpose, changed, rules_of
from dofsuite.curation.settings import Settings
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.files import read_bytes

STAGES = ("map", "merge", "write")
DRY_RUN_SAMPLES = 1000
# `--ray` without an address.
THIS_MACHINE = "local"


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """What is curated, by which rules, and which part of the work this process does."""

    inputs: tuple[str, ...] = option(
        metavar="[SOURCE=]INPUT",
        nargs="+",
        help="a folder of images, a folder of tars, a tar (a path or an address), or a text file "
        "that names some of these, one a line",
    )
    output: Path = option("-o", "--output", type=Path, metavar="DIR", help="of this curation")
    purpose: str = option(
        "--for",
        choices=("text2image", "refocus"),
        default="text2image",
        help="text2image: Deep and Shallow sets; refocus: all-in-focus images with depth; default: "
        "%(default)s",
    )
    stage: str = option(
        "--stage", choices=("all", *STAGES), default="all", help="default: %(default)s"
    )
    workers: int = option("--workers", type=int, default=1, help="processes; default: %(default)s")
    part: str | None = option(
        "--part",
        metavar="I/N",
        default=None,
        help="of --stage map or write, from 0; default: the SLURM array's task",
    )
    ray: str | None = option(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const=THIS_MACHINE,
        default=None,
        help="on Ray Data: a cluster's address (auto: the one of this machine); without an address "
        "Ray is started here (extra: scale)",
    )
    cache: Path | None = option(
        "--cache",
        type=Path,
        metavar="DIR",
        default=None,
        help="copies of tars at addresses, on a disk of this machine; default: shards in "
        "$DOFSUITE_CACHE or ~/.cache/dofsuite",
    )
    cache_gb: float = option(
        "--cache-gb", type=float, default=100.0, help="most that lies in it; default: %(default)s"
    )
    dry_run: int | None = option(
        "--dry-run",
        metavar="SAMPLES",
        nargs="?",
        const=DRY_RUN_SAMPLES,
        type=int,
        default=None,
        help="only say yield and cost, from so many images; default: 1000",
    )
    answers: Path | None = option(
        "--answers", type=Path, metavar="FILE", default=None, help="recorded answers of networks"
    )
    without: tuple[str, ...] = option(
        "--without", metavar="RULE", nargs="+", default=(), help="leave rules out"
    )
    threshold: tuple[str, ...] = option(
        "--threshold", metavar="NAME=VALUE", nargs="+", default=(), help="change a rule's number"
    )
    sharpness: tuple[str, ...] = option(
        "--sharpness",
        metavar="SOURCE=VALUE",
        nargs="+",
        default=(),
        help="refocus: least Laplacian variance of a source",
    )
    phones: Path | None = option(
        "--phones", type=Path, metavar="FILE", default=None, help="more smartphones: MAKE | MODEL"
    )
    blur_classifier: str = option(
        "--blur-classifier",
        metavar="DIR|packaged|none",
        default=NO_NETWORK,
        help="tells no, desirable and undesirable blur apart; packaged: the small one that comes "
        "with dofsuite; default: %(default)s",
    )
    vlm: str = option(
        "--vlm",
        metavar="PATH_OR_ID",
        default=DEFAULT_VLM,
        help="tells photographs from other images; default: %(default)s",
    )
    captioner: str = option(
        "--captioner",
        metavar="PATH_OR_ID|none",
        default=DEFAULT_CAPTIONER,
        help="writes missing captions; default: %(default)s",
    )
    images_per_shard: int = option(
        "--images-per-input",
        type=int,
        default=1000,
        help="of an input shard of a folder; default: %(default)s",
    )
    licence: str = option(
        "--license", "--licence", default="not stated", help="where an image has none of its own"
    )
    val_share: float = option("--val-share", type=float, default=0.0, help="default: %(default)s")
    test_share: float = option(
        "--test-share", type=float, default=0.02, help="whole scenes; default: %(default)s"
    )
    balance: bool = option(
        "--balance", action="store_true", default=False, help="cut the sets to one size"
    )
    decisions: Path | None = option(
        "--decisions",
        type=Path,
        metavar="CSV",
        default=None,
        help="of the manual pass: name, keep or drop",
    )
    samples_per_shard: int = option(
        "--samples-per-shard", type=int, default=256, help="default: %(default)s"
    )
    depth_model: str | None = option(
        "--depth-model",
        metavar="PATH_OR_ID|packaged",
        default=None,
        help="refocus, where no depth is given: a relative Depth Anything V2",
    )
    depth_kind: str | None = option(
        "--depth-kind", choices=("disparity",), default=None, help="of depth maps that are given"
    )

    def __post_init__(self) -> None:
        # Numbers
        for name in ("workers", "images_per_shard", "samples_per_shard", "dry_run"):
            value = getattr(self, name)
            if value is not None and value < 1:
                flag = {"images_per_shard": "images-per-input"}.get(name, name.replace("_", "-"))
                raise UserError(f"--{flag}: at least 1 is needed.")
        shares = (self.val_share, self.test_share)
        if min(shares) < 0 or sum(shares) >= 1:
            raise UserError("--val-share, --test-share: shares from 0 whose sum is below 1.")
        if self.stage == "all" and self.part is not None:
            raise UserError("--part: give --stage map, then merge (one process), then write.")
        if self.ray is not None and self.workers > 1:
            raise UserError("--ray: Ray itself spreads the work; leave --workers out.")
        if not 0 < self.cache_gb < float("inf"):
            raise UserError("--cache-gb: a number above 0 is needed.")

    @property
    def stages(self) -> tuple[str, ...]:
        return STAGES if self.stage == "all" else (self.stage,)

    def settings(self) -> Settings:
        """What the verdicts follow from.

        Raises:
            UserError: An option names what does not exist.
        """
        purpose = cast(Purpose, self.purpose)
        # Networks that no rule asks are none
        without = tuple(sorted(self.without))
        rules = [rule.name for rule in rules_of(purpose, without)]
        return Settings(
            purpose=purpose,
            inputs=self.inputs,
            without=without,
            thresholds=changed(self.threshold),
            sharpness=_by_source(self.sharpness),
            networks=Choice(
                blur=self.blur_classifier if "blur" in rules else NO_NETWORK,
                photograph=self.vlm if "photograph" in rules else NO_NETWORK,
                caption=self.captioner if purpose == "text2image" else NO_NETWORK,
            ),
            answers=str(self.answers) if self.answers else None,
            answers_sha256=_sha256(self.answers, "--answers"),
            phones=str(self.phones) if self.phones else None,
            phones_sha256=_sha256(self.phones, "--phones"),
            images_per_shard=self.images_per_shard,
        )

    def merge_settings(self) -> MergeSettings:
        """What plan and shards follow from, beside the verdicts."""
        return MergeSettings(
            licence=self.licence,
            val_share=self.val_share,
            test_share=self.test_share,
            balance=self.balance,
            decisions=str(self.decisions) if self.decisions else None,
            decisions_sha256=_sha256(self.decisions, "--decisions"),
            samples_per_shard=self.samples_per_shard,
            depth_model=self.depth_model,
            depth_kind=self.depth_kind,
        )

    def tar_cache(self) -> TarCache:
        """Where this machine keeps copies of input shards at addresses."""
        return TarCache(str(self.cache) if self.cache else None, max_gb=self.cache_gb)

    def part_and_parts(self) -> tuple[int, int]:
        """Which part of a stage this process does, from 0, and of how many.

        Raises:
            UserError: `--part` is no part, or the SLURM array has gaps.
        """
        if self.part is None:
            # A merge is one process's work.
            is_array = self.stage in ("map", "write") and "SLURM_ARRAY_TASK_ID" in os.environ
            return _part_of_array() if is_array else (0, 1)
        index, _, parts = self.part.partition("/")
        if not (index.isdigit() and parts.isdigit() and int(index) < int(parts)):
            raise UserError(f"--part: {self.part!r} is not I/N with I from 0 to N - 1.")
        return int(index), int(parts)


def _part_of_array() -> tuple[int, int]:
    from dofsuite.evaluation.job import array_index_and_size

    return array_index_and_size()


def _by_source(settings: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for setting in settings:
        source, _, text = setting.rpartition("=")
        try:
            found[source] = float(text)
        except ValueError:
            source = ""
        if not source:
            raise UserError(f"--sharpness: {setting!r} is not SOURCE=VALUE.")
    return found


def _sha256(path: Path | None, flag: str) -> str | None:
    return None if path is None else sha256_of(read_bytes(path, flag))
