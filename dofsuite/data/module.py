"""`ShardData`: shards in, batches out, in an order independent of ranks, workers and resumes."""

import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.distributed as distributed
from pytorch_lightning import LightningDataModule

from dofsuite.data.batch import Batch
from dofsuite.data.buckets import Buckets, image_sizes
from dofsuite.data.damage import Damage
from dofsuite.data.dataset import (
    BatchLoader,
    HeldOutSamples,
    Rows,
    TrainSamples,
    collate_or_error,
)
from dofsuite.data.manifest import PROMPTS, Verify
from dofsuite.data.open_sidecars import open_sidecars
from dofsuite.data.remote import RemoteCache, is_remote
from dofsuite.data.requirements import check_samples
from dofsuite.data.sampler import PositionBatches
from dofsuite.data.samples_seen import SamplesSeen
from dofsuite.data.shards import ShardReader
from dofsuite.data.sidecar import Sidecar, has_squares, name_of
from dofsuite.data.source_mix import ShareRamp, SourceMix
from dofsuite.data.synthetic.names import is_synthetic
from dofsuite.data.synthetic.sets import prepare, resolve
from dofsuite.errors import UserError

Crop = Literal["center", "random"]


class ShardData(LightningDataModule):
    """One or two tagged training sources and a held-out set, all folders of shards.

    The state is one integer, the number of samples trained on (`samples_seen`): the next batch
    starts there, also with another number of workers or ranks. With several ranks
    `trainer.use_distributed_sampler` must be false.
    """

    def __init__(
        self,
        train: dict[str, str],
        val: str | None = None,
        batch_size: int = 16,
        val_batch_size: int = 16,
        num_workers: int = 0,
        size_px: int | None = 512,
        flip: float = 0.5,
        seed: int = 0,
        source_mix: SourceMix | None = None,
        require_depth: bool = True,
        require_captions: bool = False,
        require_exif: bool = False,
        verify: Verify = "full",
        read_prompts: bool = True,
        read_latents: bool = True,
        read_focus_targets: bool = True,
        crop: Crop = "center",
        buckets: Buckets | None = None,
        skip_damaged: int = 0,
        remote: RemoteCache | None = None,
    ) -> None:
        """Configure the data; nothing is read yet.

        Args:
            train: Tag -> folder of shards, one or two, or the address of a remote one (`https://`,
                `s3://`, `gs://`, `hf://`); `synthetic:photo` and `synthetic:texture` need no
                download.
            val: Folder of held-out shards, for example `synthetic:val`.
            batch_size: Micro-batch size per rank.
            val_batch_size: The same in validation.
            num_workers: Worker processes per rank, which read and decode.
            size_px: Side of the center square after resizing the short side to it; null leaves
                images as they are.
            flip: Probability of mirroring a training image.
            seed: Determines, with the position in the run, the order of samples and all draws.
            source_mix: How two sources are mixed. Null: as the model's own stages say (Text2Image),
                else by DiffCamera's `ShareRamp`.
            require_depth: Whether a sample without a depth map is a mistake.
            require_captions: Whether a sample without a caption is a mistake.
            require_exif: Whether a sample whose EXIF lacks f-number, focal length or sensor width
                is a mistake.
            verify: `full` compares sha256 (once, then what has changed), `size` sizes only.
            read_prompts: Read the embeddings that `python -m dofsuite.data encode` left beside all
                training sets (and beside the held-out one), for a model with a prompt encoder,
                which is then not loaded; false encodes captions in training.
            read_latents: The same of latents, for a model that encodes photographs by a VAE.
            read_focus_targets: The same of focus targets (text2image), whose saliency model is then
                not loaded.
            crop: Where training images are cropped: the `center` (*inferred*: the papers show
                centered squares), or a `random` place for every position (*ours*).
            buckets: Shapes of other ratios for training images, each batch of one (*ours*; null:
                the square alone). Validation has the square.
            skip_damaged: Most damaged training samples, each counted once, that every rank of a run
                may skip (*ours*: 0, the first one ends the run). Each is logged and written to
                `skipped_samples.jsonl` in the run folder; the next sample in the order of its
                source takes its place.
            remote: Where copies of remote shards are kept, and how they are fetched; null for the
                defaults.
        """
        super().__init__()
        if not 1 <= len(train) <= 2:
            raise UserError(f"data.train: one or two sources are mixed, not {len(train)}.")
        if not 0 <= flip <= 1:
            raise UserError(f"data.flip: a probability is expected, not {flip}.")
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("val_batch_size", val_batch_size, 1),
            ("size_px", size_px, 1),
            ("num_workers", num_workers, 0),
            ("skip_damaged", skip_damaged, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"data.{key}: it must be at least {least}, not {value}.")
        if crop not in get_args(Crop):
            raise UserError(f"data.crop: center or random is expected, not {crop!r}.")
        if (buckets or crop == "random") and size_px is None:
            raise UserError("data.size_px: data.buckets and data.crop: random need a size.")
        self.train, self.val = dict(train), val
        for folder in self._folders().values():
            # An old name or a wrong address ends the run here, before networks are loaded.
            is_synthetic(folder)
            is_remote(folder)
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.num_workers, self.size_px = num_workers, size_px
        self.flip, self.seed = flip, seed
        self.source_mix = source_mix
        self.required = {
            "require_depth": require_depth,
            "require_captions": require_captions,
            "require_exif": require_exif,
        }
        self.verify: Verify = verify
        self.reads = {
            PROMPTS: read_prompts,
            "latents": read_latents,
            "focus_targets": read_focus_targets,
        }
        self.crop, self.buckets = crop, buckets
        self.remote = remote
        self.damage = Damage(skip_damaged)
        self.samples_seen = 0
        self._samples_in_row: int | None = None
        self._readers: dict[str, ShardReader] = {}
        # By key of the set, then by kind.
        self._sidecars: dict[str, dict[str, Sidecar]] = {}
        self._fault: str | None = None

    @property
    def sources(self) -> list[str]:
        """Tags of the training sources, in the order of `Batch.source`."""
        return list(self.train)

    @property
    def world(self) -> tuple[int, int]:
        """`(rank, world size)`; (0, 1) without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _folders(self) -> dict[str, str]:
        folders = {f"data.train.{tag}": folder for tag, folder in self.train.items()}
        return folders | ({"data.val": self.val} if self.val else {})

    def prepare_data(self) -> None:
        """Write synthetic sets that are missing, and check every shard (one process a machine)."""
        try:
            for key, folder in self._folders().items():
                if is_remote(folder):
                    continue  # every copy is checked when it comes
                # Of a set whose damaged samples may be skipped every damaged shard is named.
                may_skip = self.damage.limit and key != "data.val"
                prepare(folder, self.verify, say=self.damage.note if may_skip else None)
                if self.buckets and key != "data.val":
                    image_sizes(ShardReader(resolve(folder)))
            for sidecars in self._open_sidecars().values():
                for sidecar in sidecars.values():
                    sidecar.verify(self.verify)
        except UserError as error:
            if self.world[1] == 1:
                raise
            # Raised by `setup` on every rank: raised here, the others would wait for this one.
            self._fault = str(error)

    def setup(self, stage: str | None = None) -> None:
        """Open and check the shards; under a new trainer `samples_seen` starts at 0."""
        if self.trainer is None:
            self.prepare_data()
        # A fault that any rank found
        faults = [self._fault] * self.world[1]
        if len(faults) > 1:
            distributed.all_gather_object(faults, self._fault)
        if any(faults):
            raise UserError(next(filter(None, faults)))
        # Open the shards
        self._readers = {key: self._reader(folder) for key, folder in self._folders().items()}
        for key, reader in self._readers.items():
            self._check(key, reader)
            reader.close()  # workers open files of their own
        self._sidecars = self._open_sidecars()
        if stage == "fit" and self.trainer is not None:
            self._attach()

    def _reader(self, folder: str) -> ShardReader:
        return ShardReader(folder if is_remote(folder) else resolve(folder), self.remote)

    @property
    def brought(self) -> set[str]:
        """Kinds of side-cars that every training sample comes with; known after `setup`."""
        kinds = [set(self._sidecars.get(f"data.train.{tag}", {})) for tag in self.train]
        return set.intersection(*kinds)

    def _open_sidecars(self) -> dict[str, dict[str, Sidecar]]:
        """Open the side-cars beside the sets, of the kinds that the model takes and may have."""
        model: Any = self.trainer.lightning_module if self.trainer else None
        precision = str(self.trainer.precision) if self.trainer else ""
        are_squares = has_squares(self.size_px, self.crop, self.buckets)
        names = {
            kind: name_of(kind, networks.name, self.size_px, precision)
            for kind, networks in getattr(model, "beforehand", {}).items()
            if self.reads[kind] and (kind == PROMPTS or are_squares)
        }
        folders = self._folders() if names else {}
        return open_sidecars({key: self._reader(folders[key]) for key in folders}, names)

    def _check(self, key: str, reader: ShardReader) -> None:
        # A training set for training, a sample for each rank in validation
        manifest, folder = reader.manifest, self._folders()[key]
        if key != "data.val" and manifest.split != "train":
            raise UserError(
                f"{key}: {folder} is a {manifest.split} set and must not be trained on: choose "
                "another."
            )
        if key == "data.val" and manifest.samples < self.world[1]:
            raise UserError(
                f"{key}: {folder} has {manifest.samples} held-out samples for {self.world[1]} "
                "devices, and each needs one: hold out more, or use fewer with trainer.devices."
            )
        check_samples(reader, key, str(folder), self.required)

    def _attach(self) -> None:
        # Lightning offers data modules no hook at the start of a batch: add a callback.
        trainer: Any = self.trainer
        if self.world[1] > 1 and trainer._accelerator_connector.use_distributed_sampler:
            raise UserError(
                "trainer.use_distributed_sampler: set it to false: the data module gives every "
                "rank its own samples."
            )
        # Text2Image: its discriminator ends in a convolution of the square's size.
        if self.buckets is not None and getattr(trainer.lightning_module, "size_px", None):
            raise UserError(
                "data.buckets: this model trains on squares of model.size_px: leave the key out."
            )
        if not any(
            isinstance(callback, SamplesSeen) and callback.data is self
            for callback in trainer.callbacks
        ):
            self.samples_seen, self._samples_in_row = 0, None
            self.damage.open(Path(trainer.default_root_dir), self.world[0])
            trainer.callbacks.insert(0, SamplesSeen(self, self.batch_size * self.world[1]))

    def train_dataloader(self) -> BatchLoader:
        """Return the training batches of this rank from `samples_seen` on.

        An epoch is a whole number of optimizer steps: Lightning steps at an epoch's last batch with
        whatever was accumulated until then, and its loss is still divided by the full count.
        """
        if not self._readers:
            self.setup()
        rank, world = self.world

        # Length of an epoch
        readers = [self._readers[f"data.train.{tag}"] for tag in self.train]
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        samples_per_step = self.batch_size * world * accumulated
        batches = math.ceil(sum(map(len, readers)) / samples_per_step) * accumulated

        # The experiment's own mix, or else the model's where it has one, or else DiffCamera's
        model = self.trainer.lightning_module if self.trainer else None
        mix = self.source_mix or getattr(model, "source_mix", None) or ShareRamp()
        mix = mix.for_steps_of(samples_per_step)

        # Rows of one shape, in which the mix is then counted
        rows = self._rows(readers, samples_per_step)
        if rows is not None:
            mix = mix.in_rows_of(rows.samples_in_row)

        sidecars = [self._sidecars.get(f"data.train.{tag}", {}) for tag in self.train]
        samples = TrainSamples(
            readers,
            mix,
            self.seed,
            self.size_px,
            self.flip,
            sidecars,
            random_crop=self.crop == "random",
            rows=rows,
            skip_damaged=self.damage.limit,
        )
        # Workers draw their seeds from a generator of their own, not from the run's.
        loader = BatchLoader(
            samples,
            batch_sampler=PositionBatches(
                self.batch_size,
                batches,
                lambda: self.samples_seen,
                rank,
                world,
                rows.samples_in_row if rows else None,
            ),
            collate_fn=collate_or_error,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
        loader.on_skip, loader.on_remark = self.damage.add, self.damage.note
        return loader

    @property
    def shapes_px(self) -> list[tuple[int, int]]:
        """Shapes (height, width) of training batches, known before the first; empty: any."""
        if self.size_px is None:
            return []
        if self.buckets is None:
            return [(self.size_px, self.size_px)]
        return self.buckets.shapes_px(self.size_px)

    def _rows(self, readers: list[ShardReader], samples_per_step: int) -> Rows | None:
        if self.buckets is None:
            return None
        # Samples in a row: as given, or as at the run's first start
        given = self.buckets.samples_in_row
        length = given or self._samples_in_row or self.batch_size * self.world[1]
        if length % self.batch_size or samples_per_step % length:
            raise UserError(
                f"data.buckets.samples_in_row: {length} must be a multiple of the batch size, "
                f"{self.batch_size}, and divide the samples of an optimizer step, "
                f"{samples_per_step}: change data.batch_size or this key."
            )
        self._samples_in_row = length
        return Rows(self.shapes_px, length, [image_sizes(reader) for reader in readers])

    def val_dataloader(self) -> BatchLoader | list[Any]:
        if self.val is None:
            return []
        if not self._readers:
            self.setup()
        rank, world = self.world
        # One worker at most: validation is short.
        dataset = HeldOutSamples(
            self._readers["data.val"], self.size_px, self._sidecars.get("data.val")
        )
        return BatchLoader(
            dataset,
            sampler=range(rank, len(dataset), world),
            batch_size=self.val_batch_size,
            collate_fn=collate_or_error,
            num_workers=min(self.num_workers, 1),
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),
        )

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        # The model's own check of training batches, where it has one: here it waits for no device.
        if self.trainer is not None and self.trainer.training:
            check = getattr(self.trainer.lightning_module, "check_batch", None)
            if check is not None:
                check(batch)
        return batch

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        # The indices stay: they seed draws, which are made on the CPU.
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(index=batch.index)

    def teardown(self, stage: str | None = None) -> None:
        for reader in self._readers.values():
            reader.close()

    def state_dict(self) -> dict[str, Any]:
        rows = {} if self._samples_in_row is None else {"samples_in_row": self._samples_in_row}
        return {"samples_seen": self.samples_seen, **rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples_seen = int(state_dict["samples_seen"])
        # Samples of one shape in a row, on which the order depends
        before = state_dict.get("samples_in_row")
        given = self.buckets.samples_in_row if self.buckets else None
        if before is not None and given not in (None, before):
            raise UserError(
                f"data.buckets.samples_in_row: {given}, but this run was begun with {before}: set "
                "that, or leave the key out."
            )
        self._samples_in_row = before
