"""A text-to-image run as small as it can be: real classes at another size, eight steps of training
by Lightning.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from dofsuite.backbones import SmallDepth, SmallSaliency, SmallSdxl
from dofsuite.backbones.small.depth import save_small
from dofsuite.text2image import Text2Image
from dofsuite.text2image.dmd2.stages import Stages
from dofsuite.text2image.dmd2.training_options import Training
from dofsuite.text2image.networks import FocusPredictorConfig
from tests.text2image.steps_by_hand import photographs

SIZE_PX = 32
STEPS = 8
"""One of the teacher, a cycle of six, and the generator's of the next."""


def untrained_depth(folder: Path) -> SmallDepth:
    """A small depth model of random weights whose outputs differ from pixel to pixel by metres."""
    network = SmallDepth(weights=None, patch_px=4).load().network
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    outputs = []
    handle = network.head.conv3.register_forward_hook(
        lambda layer, args, output: outputs.append(output)
    )
    with torch.no_grad():
        network(pixel_values=torch.rand(1, 3, SIZE_PX, SIZE_PX))
        network.head.conv3.weight.div_(outputs[0].std())
        network.head.conv3.bias.copy_(-outputs[0].mean() / outputs[0].std())
    handle.remove()
    save_small(network, folder)
    return SmallDepth(weights=str(folder))


def tiny_module(depth: SmallDepth, **options) -> Text2Image:
    fast = partial(torch.optim.AdamW, lr=1e-2)
    module = Text2Image(
        backbone=options.pop("backbone", SmallSdxl(downscale=2, channels=(32, 32), num_tokens=6)),
        depth=depth,
        saliency=SmallSaliency(weights=None),
        focus=FocusPredictorConfig(small=True, initial_scale_mm=100.0),
        stages=options.pop("stages", Stages(teacher=1, deep=6, critic_order="same_kind")),
        training=Training(ema_decay=options.pop("ema_decay", None)),
        size_px=SIZE_PX,
        generator_optimizer=fast,
        critic_optimizer=fast,
        teacher_optimizer=fast,
        **options,
    )
    module.configure_model()
    return module


def train(module: Text2Image, steps: int = STEPS) -> Text2Image:
    batches = [
        photographs(SIZE_PX, step, False, rows=2, captions="a red ball") for step in range(steps)
    ]
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))
    return module
