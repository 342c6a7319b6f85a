"""A tiny refocus module on the synthetic photographs: the real classes at another size."""

from __future__ import annotations

import torch

from dofsuite.backbones import Lora, SmallFlux
from dofsuite.data import Batch, ShardData
from dofsuite.refocus import CameraSampling, Probe, Refocus, Rendering

EXPERIMENT = {
    "seed_everything": 0,
    "model": {
        "class_path": "dofsuite.refocus.Refocus",
        "init_args": {
            "backbone": {
                "class_path": "dofsuite.backbones.SmallFlux",
                "init_args": {"weights": None, "heads": 2, "single_blocks": 1, "downscale": 2},
            },
            "lora": {"rank": 4},
            "rendering": {"gamma": 2.2, "layers": 9, "reference_width_px": 256},
            "probe": {"scenes": 3, "sheet_scenes": 1},
            "num_inference_steps": 2,
        },
    },
    "data": {
        "class_path": "dofsuite.data.ShardData",
        "init_args": {
            "train": {"photo": "synthetic:photo"},
            "val": "synthetic:val",
            "batch_size": 2,
            "val_batch_size": 3,
            "size_px": 32,
        },
    },
    "trainer": {"max_steps": 6, "accelerator": "cpu"},
}


def tiny_module(**options) -> Refocus:
    module = Refocus(
        backbone=SmallFlux(weights=None, heads=2, single_blocks=1, downscale=2),
        lora=Lora(rank=4),
        camera_sampling=CameraSampling(),
        rendering=Rendering(gamma=2.2, layers=9, reference_width_px=256.0),
        probe=Probe(scenes=3, sheet_scenes=1),
        num_inference_steps=2,
        **options,
    )
    module.configure_model()
    return module


def tiny_batches(count: int, batch_size: int = 2) -> list[Batch]:
    data = ShardData(train={"photo": "synthetic:photo"}, batch_size=batch_size, size_px=32)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    return [next(batches) for _ in range(count)]


def train(module: Refocus, batches: list[Batch]) -> list[dict[str, float]]:
    """Plain steps of AdamW at 1e-3, and the losses of each."""
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    history = []
    for batch in batches:
        losses = module.losses(module.example(batch))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    return history
