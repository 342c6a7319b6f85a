"""A dry run: the stages on images drawn evenly, and what the whole would yield and cost."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dofsuite.curation.inputs import InputShard, Reader
from dofsuite.curation.merge import set_name
from dofsuite.curation.settings import Curation
from dofsuite.curation.tally import KEPT
from dofsuite.curation.verdicts import Item, Mapper, left
from dofsuite.evaluation.statistics import wilson_interval

# Of a tar's images, drawn tars tell how many there are in all.
MOST_SHARDS = 50


class Cost(NamedTuple):
    """A stage: images that reached it, seconds, images that it rejected."""

    images: int
    seconds: float
    rejected: int


class DryRun(NamedTuple):
    """What a dry run found."""

    drawn: int
    total: int
    counts: Counter[str]
    costs: dict[str, Cost]
    kept_bytes: int


def evenly(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` of the numbers below `count`, evenly spaced.

    >>> evenly(10, 3), evenly(2, 5)
    ([1, 5, 8], [0, 1])
    """
    wanted = min(count, wanted)
    return [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]


def dry_run(curation: Curation, samples: int) -> DryRun:
    """Run all stages on about `samples` images, timed; nothing is written.

    The interval of the yield takes images as independent draws; images of one input shard are often
    alike, so with few input shards it is too narrow.
    """
    counts: Counter[str] = Counter()
    # Input shards drawn evenly, and from each the same number of images
    numbers = evenly(curation.input_count, min(samples, MOST_SHARDS))
    each = math.ceil(samples / len(numbers))
    mapper = Mapper(curation)
    costs = dict.fromkeys(mapper.stages, Cost(0, 0.0, 0))
    drawn = found = kept_bytes = 0
    for number in numbers:
        reader = curation.reader(number)
        items = mapper.begin(reader)
        found += len(items)
        items = [items[k] for k in evenly(len(items), each)]
        drawn += len(items)
        for name in mapper.stages:
            costs[name] = _timed(mapper, name, reader, items, costs[name])
        for row, _ in items:
            counts[f"{set_name(row, curation)}/{row.get('rejected_by', KEPT)}"] += 1
        kept_bytes += sum(item.row["bytes"] for item in left(items))
        reader.close()
    return DryRun(drawn, _total(curation, numbers, found), counts, costs, kept_bytes)


def _timed(mapper: Mapper, name: str, reader: Reader, items: Sequence[Item], before: Cost) -> Cost:
    reached = len(left(items))
    started = time.perf_counter()
    mapper.stages[name](reader, items)
    seconds = time.perf_counter() - started
    rejected = reached - len(left(items))
    return Cost(before.images + reached, before.seconds + seconds, before.rejected + rejected)


# Images in all: a folder's are listed, a tar's are as many as in the drawn ones.
def _total(curation: Curation, numbers: Sequence[int], found: int) -> int:
    shards: list[InputShard] = [curation.input_shard(k) for k in range(curation.input_count)]
    listed = [len(shard.entries) for shard in shards if shard.entries is not None]
    if len(listed) == len(shards):
        return sum(listed)
    return round(found / len(numbers) * len(shards))


def say_dry_run(result: DryRun, say: Callable[[str], None]) -> None:
    """Print expected yields with intervals, costs a stage, and what the sample cannot tell."""
    drawn, total = result.drawn, result.total
    say(f"{drawn} of about {total:,} images, drawn evenly")
    # Yields, then rejections
    for key in sorted(key for key in result.counts if key.endswith(f"/{KEPT}")):
        low, high = (round(bound * total) for bound in wilson_interval(result.counts[key], drawn))
        expected = round(result.counts[key] / drawn * total)
        name = key.partition("/")[0]
        say(f"{name}: {expected:,} expected, {low:,} to {high:,} (95 %), before duplicates")
    for key, count in sorted(result.counts.items()):
        if not key.endswith(f"/{KEPT}"):
            say(f"  {key}: {count} of {drawn}")
    heads = ("images reached", "rejected", "ms an image", "hours for all")
    say(f"{'stage':<12}" + "".join(f"{head:>16}" for head in heads) + " (one process)")
    for name, cost in result.costs.items():
        ms = 1000 * cost.seconds / cost.images if cost.images else 0.0
        hours = cost.seconds / drawn * total / 3600
        numbers = (f"{cost.images:,}", f"{cost.rejected:,}", f"{ms:.1f}", f"{hours:,.2f}")
        say(f"{name:<12}" + "".join(f"{number:>16}" for number in numbers))
    say(f"shards: about {result.kept_bytes / drawn * total / 1e9:,.2f} GB, before duplicates")
