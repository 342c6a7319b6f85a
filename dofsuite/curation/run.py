"""A curation from its options: the stages that this process does, on the part that is its own."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from dofsuite.curation.config import CurateConfig
from dofsuite.curation.dry_run import DryRun, dry_run, say_dry_run
from dofsuite.curation.engine import Work, claimed, one_thread, part_of, run_items
from dofsuite.curation.inputs import find_inputs
from dofsuite.curation.merge import merge, planned, read_plan
from dofsuite.curation.settings import SETTINGS_FILE, Curation, begin
from dofsuite.curation.verdicts import Mapper, map_shard
from dofsuite.curation.write import Writer, output_shards, write_manifests
from dofsuite.data.remote import RemoteCache
from dofsuite.errors import UserError
from dofsuite.photography.numpy_depth import load_depth_model

Say = Callable[[str], None]


def curate(config: CurateConfig, say: Say = print) -> None:
    """Do the stages that `config` names.

    Raises:
        UserError: An option, an input or the folder is wrong, or another process does the same.
    """
    settings = config.settings()
    if config.dry_run is not None:
        say_dry_run(try_out(config, config.dry_run), say)
        return

    part = config.part_and_parts()
    # The folder: new, or one that was begun with the same options
    is_begun = (config.output / SETTINGS_FILE).is_file()
    if not is_begun and "map" not in config.stages:
        raise UserError(f"{config.output}: nothing was begun here; begin with --stage map.")
    shards = None if is_begun else find_inputs(config.inputs, config.images_per_shard)
    begin(config.output, settings, shards)
    curation = Curation(config.output, config.tar_cache())

    # The stages
    with on_engine(config):
        if "map" in config.stages:
            map_part(curation, config, part)
        if "merge" in config.stages:
            merge_all(curation, config, say)
        if "write" in config.stages:
            write_part(curation, config, part, say)


def on_engine(config: CurateConfig) -> AbstractContextManager[None]:
    """Ray where it is asked for and has work; else nothing beside this process."""
    if config.ray is None or config.stages == ("merge",):
        return nullcontext()
    from dofsuite.curation.ray_engine import connected

    return connected(config.ray)


def try_out(config: CurateConfig, samples: int) -> DryRun:
    """Run the stages on a few images; the output folder is not touched."""
    shards = find_inputs(config.inputs, config.images_per_shard)
    with TemporaryDirectory() as folder, one_thread():
        begin(Path(folder), config.settings(), shards)
        return dry_run(Curation(Path(folder), config.tar_cache()), samples)


def map_work(folder: Path, cache: RemoteCache) -> Work:
    curation = Curation(folder, cache)
    mapper = Mapper(curation)
    return lambda number: map_shard(mapper, curation, number)


def write_work(folder: Path, cache: RemoteCache) -> Work:
    return Writer(Curation(folder, cache), load_depth_model)


def map_part(curation: Curation, config: CurateConfig, part: tuple[int, int]) -> None:
    items = part_of(curation.input_count, part)
    with claimed(curation.folder, "map", items):
        missing = [item for item in items if not curation.verdict_file(item).is_file()]
        work = partial(map_work, cache=config.tar_cache())
        if config.ray is None:
            run_items(work, curation.folder, missing, config.workers, "verdicts")
        else:
            from dofsuite.curation.ray_engine import map_on_ray

            map_on_ray(curation, missing)


def merge_all(curation: Curation, config: CurateConfig, say: Say) -> None:
    from dofsuite.curation.contact_sheet import write_contact_sheets
    from dofsuite.curation.report import close_inputs, write_curation_report

    with claimed(curation.folder, "merge", range(1)):
        before = read_plan(curation.folder)
        plan = merge(curation, config.merge_settings())
        report = curation.folder / "report.html"
        if plan != before or not report.is_file():
            write_curation_report(curation, plan)
        # The manual pass
        if config.purpose == "refocus" and config.decisions is None and plan != before:
            sheets = write_contact_sheets(curation, planned(curation, plan))
            say(f"to look through: {', '.join(map(str, sheets))}; then --decisions CSV")
        close_inputs()
    sets = ", ".join(f"{counts['samples']} in {name}" for name, counts in plan["sets"].items())
    say(f"{plan['images']} images: {sets}; {report}")


def write_part(curation: Curation, config: CurateConfig, part: tuple[int, int], say: Say) -> None:
    shards = output_shards(curation.folder)
    items = part_of(len(shards), part)
    with claimed(curation.folder, "write", items):
        missing = [item for item in items if not shards[item].record(curation.folder).is_file()]
        work = partial(write_work, cache=config.tar_cache())
        if config.ray is None:
            run_items(work, curation.folder, missing, config.workers, "shards")
        else:
            from dofsuite.curation.ray_engine import write_on_ray

            write_on_ray(curation, missing)
    for manifest in write_manifests(curation):
        say(f"{manifest.parent}: complete")
