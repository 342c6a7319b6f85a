"""The map: an input shard in, a row of facts and a verdict an image out, as JSON lines.

The first line says which curation and input shard the rows are of, how many they are and their
checksum. Rows depend on the input shard and the settings alone: on no other shard, no worker and no
number of workers. The stages run one after the other over the whole shard, each only on the images
that no rule has rejected yet, so that pixels and networks are paid for few of them.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dofsuite.curation.choice import NO_NETWORK
from dofsuite.curation.hashes import perceptual_hash
from dofsuite.curation.header import read_header
from dofsuite.curation.inputs import Entry, Reader
from dofsuite.curation.networks import Network, load_network
from dofsuite.curation.rules import Facts, first_rejection
from dofsuite.curation.settings import Curation
from dofsuite.data.decode import decode_json, decode_text
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.files import parse_json, write_bytes
from dofsuite.images import load_upright

# Long side at which sharpness is measured and networks are asked (*ours*: the training's size).
REDUCED_PX = 1024


class Item(NamedTuple):
    """An image on its way through the stages: its row grows."""

    row: Facts
    entry: Entry


RunStage = Callable[[Reader, Sequence[Item]], None]


class Mapper:
    """The stages of one curation in one process; networks stay loaded from shard to shard."""

    def __init__(self, curation: Curation) -> None:
        self.curation, settings = curation, curation.settings
        self.rules, self.choice = settings.rules, settings.networks
        self.limits, self.recorded = settings.limits(), settings.recorded()
        self._networks: dict[str, Network] = {}
        # The stages in their order; each adds facts to rows, and its rules reject some.
        self.stages: dict[str, RunStage] = {"header": self.read_headers, "pixels": self.read_pixels}
        for rule in self.rules:
            if rule.stage in ("blur", "photograph"):
                self.stages[rule.stage] = self._questioning(rule.stage)
        if settings.purpose == "text2image":
            self.stages["caption"] = self.caption

    def begin(self, reader: Reader) -> list[Item]:
        """Begin the row of each image."""
        source = reader.shard.source
        return [Item({"name": entry.name, "source": source}, entry) for entry in reader.entries]

    def read_headers(self, reader: Reader, items: Sequence[Item]) -> None:
        for row, entry in items:
            try:
                row.update(_header_facts(reader, entry))
            except UserError as error:
                row["damage"] = _reason(error, entry)
            self.judge(row, "header")

    def read_pixels(self, reader: Reader, items: Sequence[Item]) -> None:
        for row, entry in left(items):
            try:
                data = reader.read(entry)
                row["bytes"], row["sha256"] = len(data), sha256_of(data)
                image = load_upright(data, entry.name)
                small = reduced(image)
                row["phash"] = f"{perceptual_hash(small):016x}"
                row["sharpness"] = sharpness_of(small)
                _read_texts(reader, entry, row)
            except UserError as error:
                row["pixel_damage"] = _reason(error, entry)
            self.judge(row, "pixels")

    def answer(self, question: str, reader: Reader, items: Sequence[Item]) -> None:
        """Answer a question about images: from the record, else by the network."""
        for item in items:
            answer = self.recorded.get(item.entry.name, {}).get(question)
            by = "recorded"
            if answer is None:
                answer = self.network(question)(reduced_values(reader, item.entry))
                by = getattr(self.choice, question)
            item.row[question], item.row[f"{question}_by"] = answer, by

    def _questioning(self, question: str) -> RunStage:
        def run(reader: Reader, items: Sequence[Item]) -> None:
            self.answer(question, reader, left(items))
            for row, _ in left(items):
                self.judge(row, question)

        return run

    def caption(self, reader: Reader, items: Sequence[Item]) -> None:
        lacking = []
        for item in left(items):
            if "caption" in item.row:
                item.row["caption_by"] = "given"
            else:
                lacking.append(item)
        if self.choice.caption == NO_NETWORK:
            lacking = [i for i in lacking if "caption" in self.recorded.get(i.entry.name, {})]
        self.answer("caption", reader, lacking)

    def network(self, question: str) -> Network:
        if question not in self._networks:
            self._networks[question] = load_network(question, self.choice)
        return self._networks[question]

    def judge(self, row: Facts, stage: str) -> None:
        """Let the rules of a stage reject an image."""
        rules = tuple(rule for rule in self.rules if rule.stage == stage)
        rejection = first_rejection(rules, row, self.limits)
        if rejection is not None:
            row["rejected_by"], row["reason"] = rejection


def left(items: Sequence[Item]) -> list[Item]:
    """The images that no rule has rejected yet."""
    return [item for item in items if "rejected_by" not in item.row]


# EXIF's segments may be longer than the beginning that is read first.
def _header_facts(reader: Reader, entry: Entry) -> dict[str, Any]:
    try:
        return read_header(reader.read_header(entry), entry.name)
    except UserError:
        return read_header(reader.read(entry), entry.name)


# Caption, license and scene that are stored beside the image.
def _read_texts(reader: Reader, entry: Entry, row: Facts) -> None:
    if "json" in entry.files:
        record = decode_json(reader.read(entry, "json"), f"{entry.name}.json")
        for key in ("caption", "licence", "scene"):
            if isinstance(record.get(key), str) and record[key]:
                row[key] = record[key]
    if "txt" in entry.files:
        row["caption"] = decode_text(reader.read(entry, "txt"), f"{entry.name}.txt")
    if not row.get("caption"):
        row.pop("caption", None)


# A reason stands beside the image's name.
def _reason(error: UserError, entry: Entry) -> str:
    return str(error).removeprefix(f"{entry.name}: ").rstrip(".")


def reduced(image: Image.Image) -> Image.Image:
    """Return an upright image as RGB, at most `REDUCED_PX` on the long side."""
    scale = REDUCED_PX / max(image.size)
    image = image.convert("RGB")
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Whole factors by averaging first: a third of the time
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=1.1)


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as display values `[3, h, w]`."""
    values = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)  # [h, w, 3] -> [3, h, w]
    return values.float() / 255


def reduced_values(reader: Reader, entry: Entry) -> Tensor:
    """Return an image's display values `[3, h, w]` as networks get them."""
    return to_tensor(reduced(load_upright(reader.read(entry), entry.name)))


def sharpness_of(image: Image.Image) -> float:
    """Laplacian variance of a reduced image, with four digits.

    `dofsuite.metrics.laplacian_variance` of Pillow's 8-bit gray, in integers: a tenth of the time.
    """
    gray = np.pad(np.asarray(image.convert("L"), dtype=np.int32), 1, mode="reflect")
    neighbors = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float(f"{float((neighbors - 4 * gray[1:-1, 1:-1]).var()):.4g}")


def map_shard(mapper: Mapper, curation: Curation, number: int) -> None:
    """Write the verdicts of an input shard; they appear at once or not at all."""
    reader = curation.reader(number)
    try:
        items = mapper.begin(reader)
        for run in mapper.stages.values():
            run(reader, items)
        write_verdicts(curation, number, finish_rows(items), reader.damage)
    finally:
        reader.close()


def finish_rows(items: Sequence[Item]) -> list[Facts]:
    """Return the rows, of what is left with the place of its files."""
    for row, entry in left(items):
        row["image"], row["files"] = entry.image, entry.files
    return [item.row for item in items]


def write_verdicts(
    curation: Curation, number: int, rows: Sequence[Facts], damage: str | None
) -> None:
    """Write rows with the line that describes them; a damaged tar is a row of its own."""
    shard = curation.input_shard(number)
    if damage is not None:
        row = {"name": shard.path, "source": shard.source, "rejected_by": "readable"}
        rows = [*rows, {**row, "reason": damage}]
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()
    head = {
        "input_shard": number,
        "rows": len(rows),
        "sha256": sha256_of(text),
        "curation": curation.fingerprint,
    }
    write_bytes(curation.verdict_file(number), json.dumps(head).encode() + b"\n" + text)


def read_verdicts(curation: Curation, number: int) -> tuple[list[Facts], str]:
    """Return the rows of an input shard, and their checksum.

    Raises:
        UserError: They are missing, altered, or of another curation.
    """
    path = curation.verdict_file(number)
    if not path.is_file():
        raise UserError(f"{path}: these verdicts are missing: run --stage map to its end.")
    first, _, text = path.read_bytes().partition(b"\n")
    try:
        head = parse_json(first)
        rows = [parse_json(line) for line in text.splitlines()]
        digest = sha256_of(text)
        found = (number, len(rows), digest, curation.fingerprint)
        is_whole = found == tuple(head[key] for key in HEAD_KEYS)
    except (ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise UserError(f"{path}: these verdicts are damaged: remove the file and run --stage map.")
    return rows, digest


HEAD_KEYS = ("input_shard", "rows", "sha256", "curation")
