"""`generate`: images from prompts by a text-to-image model, as a source of all-in-focus images.

DiffCamera's third kind of image: FLUX.1-dev with the LoRA AntiBlur (supplement D). Every image is
written once it is made, into a folder that stays (look at it, and remove what is blurred), and the
whole is packed when none is missing. An image depends on the seed and its number alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from dofsuite.cli import option
from dofsuite.data.manifest import Manifest
from dofsuite.data.packing.match_files import Listing, Pair
from dofsuite.data.packing.pack import PackConfig, PairReader, PredictDisparity, pack_pairs
from dofsuite.depth_options import AUTO, DEPTH_MODEL
from dofsuite.errors import UserError
from dofsuite.files import make_folder, parse_json, read_bytes, write_bytes, write_json
from dofsuite.images import encode_png
from dofsuite.model_terms import terms_of_model

SETTINGS = "generation.json"
# Prompts and seeds, with width, height and so on -> uint8 [h, w, 3] each.
MakeImages = Callable[..., list[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Which images are made, by which model."""

    prompts: Path = option(type=Path, metavar="PROMPTS", help="a text file, one prompt a line")
    output: Path = option("-o", "--output", type=Path, metavar="SHARDS", help="a new folder")
    model: str = option("--model", metavar="PATH_OR_ID", help="a text-to-image model of diffusers")
    revision: str | None = option("--revision", default=None, help="hub revision of the model")
    dtype: Literal["bfloat16", "float16", "float32"] = option(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="of its weights; default: %(default)s",
    )
    lora: str | None = option(
        "--lora",
        metavar="PATH_OR_ID",
        default=None,
        help="such as Shakker-Labs/FLUX.1-dev-LoRA-AntiBlur, which the paper uses",
    )
    lora_scale: float = option(
        "--lora-scale", type=float, default=1.0, help="its strength; default: %(default)s"
    )
    licence: str | None = option(
        "--license",
        "--licence",
        metavar="TEXT",
        default=None,
        help="of the model's images; default: what is known of the model",
    )
    # The images
    images: Path | None = option(
        "--images",
        type=Path,
        metavar="DIR",
        default=None,
        help="of the PNGs; SHARDS_images",
    )
    per_prompt: int = option("--per-prompt", type=int, default=1, help="images of each prompt")
    seed: int = option("--seed", type=int, default=0, help="of the noise")
    width_px: int = option("--width", type=int, default=1024, help="default: %(default)s")
    height_px: int = option("--height", type=int, default=1024, help="default: %(default)s")
    steps: int | None = option("--steps", type=int, default=None, help="default: the pipeline's")
    guidance: float | None = option(
        "--guidance", type=float, default=None, help="default: the pipeline's"
    )
    batch_size: int = option("--batch-size", type=int, default=1, help="images at once")
    offload: bool = option(
        "--offload", action="store_true", default=False, help="less GPU memory, more time"
    )
    # The shards
    depth: Path | None = option(
        "--depth", type=Path, metavar="auto", default=None, help="auto: by a depth model"
    )
    depth_model: str | None = option("--depth-model", **DEPTH_MODEL)
    split: str = option(
        "--split", choices=("train", "val", "test"), default="train", help="default: %(default)s"
    )
    samples_per_shard: int = option(
        "--samples-per-shard", type=int, default=256, help="default: %(default)s"
    )

    def __post_init__(self) -> None:
        counts = (self.per_prompt, self.batch_size, self.samples_per_shard, self.steps or 1)
        if min(*counts, self.width_px // 8, self.height_px // 8) < 1:
            raise UserError("generate: counts must be at least 1 and sides at least 8 px.")
        if self.depth not in (None, AUTO):
            raise UserError("--depth: made images have no maps yet; give auto or leave it out.")

    @property
    def images_folder(self) -> Path:
        return self.images or self.output.with_name(f"{self.output.name}_images")


def generate(
    config: GenerateConfig,
    load: Callable[[], MakeImages],
    load_depth_model: Callable[[], PredictDisparity],
    say: Callable[[str], None],
) -> Manifest:
    """Make the images that are missing, then pack all of them.

    Args:
        config: What is made.
        load: Loads the text-to-image model; called if an image is missing.
        load_depth_model: Of `--depth auto`; called before packing.
        say: Is told the license, and what is made.

    Raises:
        UserError: The license is not known, the output exists, or the folder holds images of other
            settings.
    """
    # License, prompts, and what is there
    terms = terms_of(config)
    say("; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in terms.items()))
    if config.output.exists():
        raise UserError(f"{config.output}: it exists already: remove it or choose another folder.")
    prompts = read_prompts(config.prompts)
    folder, count = config.images_folder, len(prompts) * config.per_prompt
    check_settings(folder, settings_of(config, prompts))
    missing = [index for index in range(count) if not image_file(folder, index).is_file()]
    say(f"{folder}: {len(missing)} of {count} images are missing")

    # Images, then shards
    if missing:
        make_missing(missing, prompts, config, load(), folder)
    predict = load_depth_model() if config.depth == AUTO else None
    pairs = [Pair(f"{index:06d}", image_file(folder, index), None) for index in range(count)]
    facts = {pair.stem: facts_of(index, prompts, config, terms) for index, pair in enumerate(pairs)}
    packing = PackConfig(
        folder=folder,
        output=config.output,
        depth=config.depth,
        depth_model=config.depth_model,
        source="ai",
        licence=terms["licence"],
        split=config.split,
        samples_per_shard=config.samples_per_shard,
    )
    reader = PairReader(facts=lambda pair: facts[pair.stem])
    return pack_pairs(Listing(pairs, [], []), packing, predict, reader, terms)


def terms_of(config: GenerateConfig) -> dict[str, str]:
    """Return the licenses of model and LoRA, and what follows for who trains on the images.

    Raises:
        UserError: One is not known.
    """
    # Of the model and of what changes it
    known = {"model": terms_of_model(config.model)}
    if config.lora is not None:
        known["lora"] = terms_of_model(config.lora)
    unknown = [part for part, terms in known.items() if terms is None]
    if unknown and config.licence is None:
        name = config.model if unknown[0] == "model" else config.lora
        raise UserError(
            f"--license: the license of {name} is not known here; say under which its images are "
            "used."
        )
    # As the user says, or as it is known; the bearings of both
    said = [each for each in known.values() if each is not None]
    licence = config.licence or " and ".join(dict.fromkeys(each.licence for each in said))
    bearing = "; ".join(dict.fromkeys(each.bearing for each in said)) or "not examined here"
    terms = {"model": config.model, "lora": config.lora or "none", "licence": licence}
    return terms | {"bearing_on_what_is_trained": bearing}


def read_prompts(path: Path) -> list[str]:
    """Read a text file's lines that are not empty.

    Raises:
        UserError: It cannot be read or has none.
    """
    lines = read_bytes(path, "PROMPTS").decode("utf-8-sig", "replace").splitlines()
    prompts = [" ".join(line.split()) for line in lines if line.strip()]
    if not prompts:
        raise UserError(f"{path}: there is no prompt in it; write one a line.")
    return prompts


def settings_of(config: GenerateConfig, prompts: Sequence[str]) -> dict[str, Any]:
    # Images of other settings are not mixed with these
    return {
        **{name: getattr(config, name) for name in ("model", "revision", "lora", "lora_scale")},
        **{name: getattr(config, name) for name in ("dtype", "seed", "steps", "guidance")},
        **{name: getattr(config, name) for name in ("width_px", "height_px", "per_prompt")},
        "prompts": list(prompts),
    }


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Check that a folder holds images of these settings, or write them into a new one."""
    file = folder / SETTINGS
    if not file.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: it holds other files; name an empty folder by --images.")
        write_json(make_folder(folder) / SETTINGS, settings)
        return
    try:
        stored = dict(parse_json(read_bytes(file)))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: it is damaged; name another folder by --images.") from error
    if different := [name for name in settings if stored.get(name) != settings[name]]:
        raise UserError(
            f"{file}: {different[0]}: these images were made with another one; name another folder "
            "by --images, or remove this one."
        )


def image_file(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.png"


def seed_of(config: GenerateConfig, index: int) -> int:
    from dofsuite.diffusion import draw_integer  # torch: packing works without

    return draw_integer(config.seed, index, "generated image")


def make_missing(
    missing: Sequence[int],
    prompts: Sequence[str],
    config: GenerateConfig,
    make_images: MakeImages,
    folder: Path,
) -> None:
    """Make images in batches; each gets its name once it is complete."""
    with tqdm(total=len(missing), unit="image", disable=None) as bar:
        for start in range(0, len(missing), config.batch_size):
            batch = missing[start : start + config.batch_size]
            images = make_images(
                [prompts[index // config.per_prompt] for index in batch],
                [seed_of(config, index) for index in batch],
                width=config.width_px,
                height=config.height_px,
                num_inference_steps=config.steps,
                guidance_scale=config.guidance,
            )
            for index, image in zip(batch, images, strict=True):
                write_bytes(image_file(folder, index), encode_png(image))
            bar.update(len(batch))


def facts_of(
    index: int, prompts: Sequence[str], config: GenerateConfig, terms: dict[str, str]
) -> dict[str, Any]:
    """Return what a sample's JSON says of how it was made."""
    draw: dict[str, Any] = {
        "seed": config.seed,
        "index": index,
        "noise_seed": seed_of(config, index),
    }
    draw |= {"steps": config.steps, "guidance": config.guidance, "revision": config.revision}
    return {
        "caption": prompts[index // config.per_prompt],
        "generated_by": {**terms, "lora_scale": config.lora_scale, **draw},
    }
