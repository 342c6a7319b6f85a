"""A program that builds a sharded module on two gloo ranks and measures its memory; its test starts
it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from dofsuite.backbones import SmallSdxl
from tests.text2image.tiny import SIZES, train
from tests.training.sharding.test_meta_building import module


def private_bytes() -> int:
    """This process's memory that no file backs."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


class Peak:
    """How much private memory grows at the most."""

    def __enter__(self) -> Peak:
        self.before, self.most, self.ended = private_bytes(), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.ended.wait(0.002):
            self.most = max(self.most, private_bytes() - self.before)

    def __exit__(self, *error: Any) -> None:
        self.ended.set()
        self.thread.join()


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ.get("LOCAL_RANK", 0))
    torch.set_num_threads(1)
    unet = SmallSdxl(**{**SIZES, "channels": (384, 512)}).load().unet
    unet_bytes = sum(weight.numel() * weight.element_size() for weight in unet.parameters())
    if rank == 0:
        unet.save_pretrained(folder / "unet")
    del unet
    # The other rank is started when the first one begins to fit: the file is there.
    model, report = module(folder / "unet"), {"unet_bytes": unet_bytes}
    configure = model.configure_model

    def measured() -> None:
        with Peak() as peak:
            configure()
        report["peak"] = peak.most

    model.configure_model = measured
    train(model, 0, devices=2, strategy="fsdp2", limit_val_batches=0)
    others = [model.networks.discriminator, model.networks.focus]
    report["other_bytes"] = sum(
        weight.numel() * weight.element_size() for each in others for weight in each.parameters()
    )
    (folder / f"{rank}.json").write_text(json.dumps(report))
