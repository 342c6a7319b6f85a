"""The shipped full-size experiments on tiny folders of SDXL's and FLUX.1-dev's layout, on a CPU:
pack -> encode -> train -> export -> command -> stock diffusers, mixed precision and float32.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image

import dofsuite.data.__main__
import dofsuite.fit
import dofsuite.refocus.__main__
import dofsuite.text2image.__main__
from tests.real_layouts import save_flux, save_photographs, save_sdxl
from tests.test_examples import example
from tests.text2image.tiny_run import untrained_depth

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PROMPT = "a red ball on the left"
CPU = (
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"),
    *("--data.init_args.size_px", "64", "--data.init_args.num_workers", "0"),
    *("--data.init_args.batch_size", "2", "--trainer.log_every_n_steps", "1"),
)


MAINS = {"fit": dofsuite.fit.main, "data": dofsuite.data.__main__.main}
MAINS |= {
    "text2image": dofsuite.text2image.__main__.main,
    "refocus": dofsuite.refocus.__main__.main,
}


def command(name: str, *words: str) -> None:
    """Run `python -m dofsuite.NAME WORDS`, in this process."""
    assert MAINS[name](words) == 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_text2image_from_photographs_to_a_stock_pipeline(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_sdxl(Path("sdxl"))
    untrained_depth(Path("depth"))
    for seed, name in enumerate(("deep", "shallow", "prompts")):
        save_photographs(Path("photos") / name, count=4, seed=seed)
        split = ("--split", "val") if name == "prompts" else ()
        command("data", "pack", f"photos/{name}", "-o", f"data/{name}", "--require-exif", *split)
    if precision == "bf16-mixed":  # with and without embeddings beside the shards
        command("data", "encode", "data/deep", "data/shallow", "data/prompts", "--base", "sdxl")

    # Deep, then full, by the shipped files
    model = "--model.init_args"
    tiny = (
        *(
            f"{model}.backbone.init_args.path",
            "sdxl",
            f"{model}.backbone.init_args.vae",
            "sdxl/vae",
        ),
        *(f"{model}.depth", "dofsuite.backbones.SmallDepth", f"{model}.depth.weights", "depth"),
        *(f"{model}.saliency", "dofsuite.backbones.SmallSaliency"),
        *(f"{model}.size_px", "64", f"{model}.focus.small", "true", "--trainer.num_nodes", "1"),
        *("--trainer.precision", precision, *CPU),
    )
    deep, full = (ROOT / "experiments" / f"text2image_{name}.yaml" for name in ("deep", "full"))
    command("fit", str(deep), *tiny, "--trainer.max_steps", "6")
    command("fit", str(full), *tiny, "--trainer.max_steps", "18", f"{model}.stages.deep", "6")

    # The command, and stock diffusers with the exported UNet
    command(
        *("text2image", PROMPT, "--f-number", "1.8", "8", "--model", "runs/text2image_full"),
        *("-o", "out"),
    )
    assert Image.open("out/f1.8.png").size == (64, 64)
    export = Path("runs/text2image_full/export")
    pipe = StableDiffusionXLPipeline.from_pretrained(
        "sdxl", unet=UNet2DConditionModel.from_pretrained(export / "unet"), add_watermarker=False
    ).to(torch.float32)
    pipe.scheduler = LCMScheduler.from_pretrained(export, subfolder="scheduler")
    image = pipe(
        PROMPT, height=64, width=64, timesteps=[999, 749, 499, 249], guidance_scale=1.0
    ).images[0]
    assert image.size == (64, 64)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_refocus_from_photographs_to_stock_diffusers(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_flux(Path("flux"))
    for seed, name in enumerate(("photo", "ai", "val")):
        save_photographs(Path("photos") / name, count=4, seed=seed, with_depth=True)
        split = ("--split", "val") if name == "val" else ()
        depth = ("--depth-kind", "disparity", *split)
        command("data", "pack", f"photos/{name}", "-o", f"data/{name}", *depth)
    path = ("--model.init_args.backbone.init_args.path", "flux")
    command(
        *("fit", str(ROOT / "experiments" / "refocus_flux_512.yaml"), *path, *CPU),
        *("--trainer.precision", precision, "--trainer.max_steps", "2"),
        *("--trainer.accumulate_grad_batches", "1", "--data.init_args.val_batch_size", "2"),
    )
    photo, depth = "photos/val/photo0.jpg", "photos/val/photo0_depth.png"
    command(
        *("refocus", photo, "--focus", "0.3,0.6", "--bokeh", "12", "--depth", depth),
        *("--model", "runs/refocus_flux_512", "-o", "refocused.jpg"),
    )
    export = "runs/refocus_flux_512/export"
    example("stock_diffusers").main([export, photo, depth, "0.3", "0.6", "12", "stock.png", "flux"])
    assert Image.open("stock.png").width > Image.open("stock.png").height
