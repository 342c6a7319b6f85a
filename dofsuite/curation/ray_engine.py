"""The map and the writing on Ray Data: stages without networks as tasks, networks as actors.

What travels between stages are rows, a few hundred bytes an image; each stage reads the images that
it needs by itself, from the folder that all machines see. An actor keeps its network. Ray holds
back what comes faster than it is taken, and repeats what a lost worker was doing; files appear
whole or not at all, so a repetition changes nothing.
"""

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from dofsuite.curation.config import THIS_MACHINE
from dofsuite.curation.settings import Curation
from dofsuite.curation.verdicts import Item, Mapper, finish_rows, write_verdicts
from dofsuite.curation.write import Writer
from dofsuite.data.remote import RemoteCache
from dofsuite.errors import UserError
from dofsuite.photography.numpy_depth import load_depth_model

# Stages that may run a network; with GPUs their actors have them.
NETWORK_STAGES = ("blur", "photograph", "caption")
# Of an instance that is started here: only rows lie in it.
STORE_BYTES = 256 * 2**20
Row = dict[str, Any]


class Place(NamedTuple):
    """What a worker needs to open the curation; all machines see these folders."""

    folder: str
    # Paths of inputs may be relative to where the command was given.
    start: str
    cache: RemoteCache | None


# Once a process, which does many rows.
@cache
def _mapper_at(place: Place) -> Mapper:
    return Mapper(_curation_at(place))


@cache
def _writer_at(place: Place) -> Writer:
    return Writer(_curation_at(place), load_depth_model)


@cache
def _curation_at(place: Place) -> Curation:
    torch.set_num_threads(1)
    os.chdir(place.start)
    return Curation(Path(place.folder), place.cache)


class Stage(ABC):
    """A step of the work on a row in a Ray worker."""

    def __init__(self, place: Place, *names: str) -> None:
        self.place, self.names = place, names

    def __call__(self, row: Row) -> Row:
        """Do the step; a user's mistake is the row's `error`, and no further step is done."""
        if row["error"]:
            return row
        try:
            return row | self.run(row)
        except UserError as error:
            return row | {"error": str(error)}

    @abstractmethod
    def run(self, row: Row) -> Row:
        """Return what changes of the row."""


class MapStage(Stage):
    """Some of the map's stages on an input shard; the first begins its rows."""

    def run(self, row: Row) -> Row:
        mapper = _mapper_at(self.place)
        reader = mapper.curation.reader(row["item"])
        try:
            # Begin the rows, or take those of the stages before
            items = mapper.begin(reader)
            if row["rows"]:
                given = json.loads(row["rows"])
                items = [Item(facts, item.entry) for facts, item in zip(given, items, strict=True)]
            for name in self.names:
                mapper.stages[name](reader, items)
        finally:
            reader.close()
        return {"rows": json.dumps([item.row for item in items])}


class VerdictStage(Stage):
    """Writes the verdicts of an input shard."""

    def run(self, row: Row) -> Row:
        curation = _curation_at(self.place)
        reader = curation.reader(row["item"])
        try:
            pairs = zip(json.loads(row["rows"]), reader.entries, strict=True)
            rows = finish_rows([Item(facts, entry) for facts, entry in pairs])
            write_verdicts(curation, row["item"], rows, reader.damage)
        finally:
            reader.close()
        return {"rows": ""}


class WriteStage(Stage):
    """Writes an output shard."""

    def run(self, row: Row) -> Row:
        _writer_at(self.place)(row["item"])
        return {}


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to Ray, or start it on this machine, until the end of the block.

    Raises:
        UserError: Ray is not installed or cannot be reached.
    """
    # Nothing is told to Ray's makers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray.data
    except ImportError as error:
        raise UserError(f"--ray: {error}: pip install 'dofsuite[scale]'.") from error

    # Connect, or start an instance of this machine alone
    options: dict[str, Any] = {"address": address}
    if address == THIS_MACHINE:
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **options)
    except Exception as error:  # Ray raises plain ones too
        raise UserError(f"--ray: {address}: it cannot be reached: {_line(error)}.") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
    finally:
        ray.shutdown()


def map_on_ray(curation: Curation, items: Sequence[int]) -> None:
    """Write the verdicts of input shards; Ray is connected.

    Raises:
        UserError: A stage raised it, or Ray did not come to its end.
    """
    if not items:
        return
    place = _place_of(curation)
    names = Mapper(curation).stages
    networks = [name for name in names if name in NETWORK_STAGES]
    # A task for the cheap stages, a pool of actors for each network, a task that writes
    cheap = [name for name in names if name not in NETWORK_STAGES]
    data = _rows_of(items).map(MapStage(place, *cheap))
    for name in networks:
        data = _by_actors(data, MapStage, (place, name), len(networks))
    _consume(data.map(VerdictStage(place)), len(items), "verdicts")


def write_on_ray(curation: Curation, items: Sequence[int]) -> None:
    """Write output shards, by actors where depth may be predicted. Raises as `map_on_ray`."""
    if not items:
        return
    place, data = _place_of(curation), _rows_of(items)
    if curation.settings.purpose == "refocus":
        data = _by_actors(data, WriteStage, (place,), 1)
    else:
        data = data.map(WriteStage(place))
    _consume(data, len(items), "shards")


def _place_of(curation: Curation) -> Place:
    return Place(str(curation.folder.resolve()), os.getcwd(), curation.cache)


# A Ray dataset, a block an item.
def _rows_of(items: Sequence[int]) -> Any:
    import ray

    rows = [{"item": item, "rows": "", "error": ""} for item in items]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def _by_actors(data: Any, stage: type[Stage], arguments: tuple[Any, ...], pools: int) -> Any:
    """Add a pool of actors, one of `pools` of this dataset, all of which leave a core to tasks."""
    import ray

    there = ray.cluster_resources()
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 1)) - 1
    # A GPU each, or a core each where there are none; a part of one where they do not suffice
    most = max(1, gpus if gpus else cpus // pools)
    actors = max(pools, gpus if gpus else most * pools)
    return data.map(
        stage,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        fn_constructor_args=arguments,
        num_gpus=min(1, gpus * 100 // pools / 100),
        num_cpus=min(1, cpus * 100 // actors / 100),
    )


def _consume(data: Any, count: int, title: str) -> None:
    try:
        for row in tqdm(data.iter_rows(), total=count, desc=title, disable=None):
            if row["error"]:
                raise UserError(row["error"])
    except UserError:
        raise
    except Exception as error:  # of the many that Ray has
        raise UserError(
            f"--ray: {title}: a worker did not come to its end: {_line(error)}; "
            "the same command goes on from here."
        ) from error


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().rstrip(".")
