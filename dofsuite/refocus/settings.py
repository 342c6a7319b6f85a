"""The settings that an export's training and inference share: `refocus.json`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from dofsuite.backbones import (
    Acceleration,
    Backbone,
    BackboneModules,
    Conditions,
    Lora,
    PositionIds,
)
from dofsuite.backbones.descriptors import rebuild
from dofsuite.backbones.export_settings import ExportSettings
from dofsuite.backbones.hub import HubWeights
from dofsuite.backbones.quantization import Quantization
from dofsuite.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RefocusSettings(ExportSettings):
    """What inference must know of a run."""

    FILE = "refocus.json"
    MISSING = "holds no refocus adapter ({file} is missing); train one: make quickstart"
    OLD_KEYS: ClassVar = {"guidance": "guidance_embed", "sees_depth": "uses_depth"}

    backbone: dict[str, Any]
    """The base model, as `describe` has it."""
    guidance_embed: float
    position_ids: PositionIds
    num_inference_steps: int
    time_shift: float
    size_px: int | None
    uses_depth: bool = True
    """False where every depth image was dropped; absent from the first exports."""
    level_max: float | None = None
    """Largest bokeh level of training; absent from the first exports."""
    conditions: Conditions = "full"
    """What reference and depth are to the network; absent from the first exports."""

    def build_backbone(self, export: Path, base: str | None = None) -> Backbone:
        """Return the backbone that the run was trained on; `export` is named where that fails.

        Args:
            export: The folder of these settings.
            base: The hub id or the folder of another copy of it.

        Raises:
            UserError: The settings describe none, or one that has no other copy.
        """
        try:
            arguments = dict(self.backbone["arguments"])
            arguments.pop("empty_prompt_tokens", None)  # the export's own camera embedder has them
            if base is not None:
                if "path" not in arguments:
                    raise UserError(
                        f"--base: the base of {export} comes with dofsuite; leave the option out."
                    )
                arguments |= {"path": base, "revision": None}
            return rebuild({**self.backbone, "arguments": arguments})
        except (AttributeError, KeyError, TypeError) as error:
            raise unreadable(export / self.FILE, f"backbone: {error}") from error

    def few_step_model(self, export: Path) -> tuple[str, int]:
        """Return the hub id and the steps of the base's few-step model.

        Raises:
            UserError: It has none.
        """
        few_step = self.build_backbone(export).distilled
        if few_step is None:
            raise UserError(
                f"--distilled: no few-step model is known of the base of {export}; leave it out."
            )
        return few_step

    def pipeline_config(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in ("backbone", "time_shift")
        }


def check_storage(
    quantize: Quantization, offload_blocks: bool, lora: Lora | None, acceleration: Acceleration
) -> None:
    """Check how the base's weights are stored in training.

    Raises:
        ValueError: They are trained, or the combination does not work.
    """
    if lora is None and (quantize != "none" or offload_blocks):
        key = "offload_blocks" if offload_blocks else "quantize"
        raise ValueError(f"{key}: weights that are trained cannot be stored so; set a lora")
    if offload_blocks and quantize == "nf4":
        raise ValueError("offload_blocks: bitsandbytes keeps nf4 on the GPU; set quantize to int8")
    if offload_blocks and acceleration.compile != "none":
        raise ValueError("offload_blocks: not with compiled blocks; leave out acceleration.compile")


def load_base(backbone: Backbone) -> BackboneModules:
    """Load the base model; where a pretrained one is missing, the error says how to name a copy."""
    try:
        return backbone.load()
    except UserError as error:
        if not isinstance(backbone, HubWeights):
            raise
        raise UserError(
            f"{error} Name another copy of the base: --base of dofsuite.refocus, or base= of "
            "from_export."
        ) from error


def unreadable(file: Path, reason: object) -> UserError:
    """Return the error of a damaged file, with the first line of the reason."""
    first = (str(reason).splitlines() or ["no reason given"])[0].rstrip(".")
    return UserError(
        f"{file}: --model: it cannot be read ({first[:160]}); copy the export again from its run."
    )
