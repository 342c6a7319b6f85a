"""An export of a run that began from SDXL's own folder, in every part as diffusers holds it, beside
stock diffusers.
"""

import shutil

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    LCMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dofsuite.backbones import PretrainedSdxl
from dofsuite.errors import UserError
from dofsuite.text2image import Text2ImagePipeline
from dofsuite.text2image.dmd2.stages import Stages
from tests.real_layouts import TEXT, sdxl_scheduler, tokenizer
from tests.text2image.tiny_run import tiny_module, untrained_depth
from tests.text2image.tiny_unet import tiny_unet

PROMPT = "a red ball"


def tiny_unet_for(tokens: int, pooled: int) -> UNet2DConditionModel:
    config = dict(tiny_unet().config)
    config |= {
        "cross_attention_dim": tokens,
        "projection_class_embeddings_input_dim": pooled + 6 * 8,
    }
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config(config)


def save_tiny_sdxl(folder) -> None:
    """Write both text encoders, tokenisers, UNet, VAE and scheduler as SDXL's folder holds them."""
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    torch.manual_seed(0)
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 16), norm_num_groups=4, scaling_factor=0.13025, **blocks
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=16, num_hidden_layers=3, **TEXT)),
        text_encoder_2=CLIPTextModelWithProjection(
            CLIPTextConfig(hidden_size=24, num_hidden_layers=3, projection_dim=20, **TEXT)
        ),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=tiny_unet_for(16 + 24, 20),
        scheduler=sdxl_scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)


@pytest.fixture
def run(tmp_path):
    save_tiny_sdxl(tmp_path / "sdxl")
    backbone = PretrainedSdxl(str(tmp_path / "sdxl"), vae=None, vae_dtype="float32")
    module = tiny_module(untrained_depth(tmp_path / "depth"), backbone=backbone, stages=Stages())
    with torch.no_grad():
        for value in module.networks.generator.parameters():
            value.add_(0.02 * torch.randn_like(value))
    module.export(tmp_path / "run" / "export")
    shutil.rmtree(tmp_path / "sdxl" / "unet")  # which an export replaces
    return tmp_path


def test_the_generator_is_kept_in_bfloat16_and_nothing_of_the_base_beside_it(run):
    folder = run / "run" / "export"
    assert {path.name for path in folder.iterdir()} == {
        "unet",
        "scheduler",
        "focus_predictor",
        "text2image.json",
        "README.md",
    }
    pipe = Text2ImagePipeline.from_export(run / "run")
    assert pipe.unet.dtype == torch.bfloat16
    assert pipe.focus_predictor.dtype == torch.float32


def test_a_stock_pipeline_of_the_base_with_our_unet_makes_our_image(run):
    """The model card's recipe, word for word."""
    pipe = Text2ImagePipeline.from_export(run / "run")
    pipe.unet.float()
    stock = StableDiffusionXLPipeline.from_pretrained(
        run / "sdxl",
        unet=UNet2DConditionModel.from_pretrained(
            run / "run" / "export" / "unet", torch_dtype=torch.float32
        ),
        torch_dtype=torch.float32,
        add_watermarker=False,
    )
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = LCMScheduler.from_pretrained(run / "run" / "export", subfolder="scheduler")
    theirs = stock(
        PROMPT,
        height=32,
        width=32,
        timesteps=[999, 749, 499, 249],
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(7),
        output_type="pt",
    ).images
    ours = pipe(PROMPT, generator=torch.Generator().manual_seed(7), output_type="pt").images
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert ours.std() > 0.02


def test_a_base_that_moved_is_named_and_can_be_given(run):
    (run / "sdxl").rename(run / "moved")
    with pytest.raises(UserError, match="sdxl: vae"):
        Text2ImagePipeline.from_export(run / "run")
    pipe = Text2ImagePipeline.from_export(run / "run", PretrainedSdxl(str(run / "moved"), vae=None))
    scene = pipe(PROMPT, seed=0)
    assert scene.images[0].size == (32, 32)
    assert pipe.photograph(scene, [1.8, 22], 50)[0][1].size == (32, 32)
