"""A program that trains the tiny module on two gloo ranks; its test starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from dofsuite.text2image import Stages, Training
from tests.text2image.tiny import tiny_data, tiny_module, train

STAGES = Stages(deep=0, critic_steps=2, critic_order="same_kind")
OPTIONS = {"stages": STAGES, "training": Training(micro_batches=2)}
STEPS = 6

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    module = tiny_module(**OPTIONS)
    data = tiny_data(module.stages, batch_size=2, world_size=2)
    losses = train(
        module,
        STEPS,
        folder,
        data=data,
        devices=2,
        strategy="ddp_find_unused_parameters_true",
        precision=sys.argv[2],
    )
    weights = {name: weight.detach() for name, weight in module.networks.named_parameters()}
    torch.save(weights, folder / f"{module.global_rank}.pt")
    (folder / f"{module.global_rank}.json").write_text(json.dumps(losses))
