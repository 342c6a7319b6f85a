"""Keys, values and classes of experiments that have another name now.

An experiment file or an override with an old one is refused with the new name (`new_name`). The
`config.yaml` of a run that was begun under the old names is translated (`translated`), so that the
run goes on and can be evaluated.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from dofsuite.training.run.dotted_keys import flat
from dofsuite.training.run.global_batch import samples_per_step


class Renamed(NamedTuple):
    # The key now, below the same `init_args`.
    key: str
    # Old value -> new value, where values changed too.
    values: dict[Any, Any] | None = None


CLASS_PATHS = {
    "dofsuite.refocus.RefocusBase": "dofsuite.pretraining.RefocusPretraining",
    "dofsuite.refocus.base.RefocusBase": "dofsuite.pretraining.RefocusPretraining",
    "dofsuite.text2image.CameraSettings": "dofsuite.baselines.CameraTokensModule",
    "dofsuite.text2image.camera_tokens.CameraSettings": "dofsuite.baselines.CameraTokensModule",
    "dofsuite.text2image.DepthStandIn": "dofsuite.pretraining.DepthSurrogate",
    "dofsuite.text2image.SaliencyStandIn": "dofsuite.pretraining.SaliencySurrogate",
    "dofsuite.backbones.RandomFlux": "dofsuite.backbones.PretrainedFlux",
    "dofsuite.backbones.RandomSdxl": "dofsuite.backbones.PretrainedSdxl",
    "dofsuite.backbones.RandomDepth": "dofsuite.backbones.DepthAnything",
}


REFOCUS = {
    "draws": Renamed("camera_sampling"),
    "time": Renamed("timestep_sampling"),
    "schedule": Renamed("lr_schedule"),
    "guidance": Renamed("guidance_embed"),
    "rows": Renamed("split_backward", {"together": "none", "apart": "losses"}),
}
# Start of a section's class path (the present one) -> old key below `init_args` -> the new key.
KEYS: dict[str, dict[str, Renamed]] = {
    "dofsuite.refocus.": REFOCUS,
    "dofsuite.pretraining.": {**REFOCUS, "prompted": Renamed("prompt_share")},
    "dofsuite.text2image.": {
        "guidance": Renamed("guidance_scale"),
        "exif": Renamed("exif_conditioned"),
        "head_float32": Renamed("discriminator_dtype", {True: "float32", False: None}),
        "teacher_bfloat16": Renamed("teacher_dtype", {True: "bfloat16", False: "float32"}),
        "focus.reading": Renamed("focus.focus_readout"),
        "stages.critic_turns": Renamed("stages.critic_steps"),
        "training.warmup_turns": Renamed("training.warmup_steps"),
    },
    "dofsuite.baselines.": {"untold": Renamed("cond_dropout")},
    "dofsuite.data.": {"schedule": Renamed("source_mix")},
}

# Key below a section's `init_args` -> old value -> the new, where the key has kept its name.
VALUES_OF_KEYS: dict[str, dict[Any, Any]] = {
    "split_backward": {False: "none", True: "losses"},
}

# Keys that are gone, at the end of any path -> why, and what to do.
STAYS = "both text encoders stay loaded and nothing is cached on disk; leave it out"
REMOVED = {"cache_prompts": STAYS, "keep_text_encoders": STAYS}

# Old value, or start of one where it ends in a colon -> the new.
VALUES = {"embedded:": "synthetic:", "colours": "colors"}


def new_class_path(class_path: Any) -> str | None:
    """Return what a class is called now; None where it has not been renamed."""
    return CLASS_PATHS.get(class_path) if isinstance(class_path, str) else None


def why_removed(key: str) -> str | None:
    """Return why a key is gone; None where it is not."""
    return REMOVED.get(key.rpartition(".")[2])


def new_name(class_path: str, key: str) -> str | None:
    """Return what a key below a section's `init_args` is called now; None where it has not changed.

    A key that leads further down (`time.shift`) is renamed in its first parts.
    """
    for old, renamed in _keys_of(class_path).items():
        if f"{key}.".startswith(f"{old}."):
            return renamed.key + key.removeprefix(old)
    return None


def translated(config: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved experiment under the names of today."""
    config = _with_new_values(config)
    data = (config.get("data") or {}).get("init_args") or {}
    if isinstance(data.get("schedule"), dict):
        data["schedule"] = _source_mix(data["schedule"], len(data.get("train") or ()), config)
    for section in config.values():
        if not (isinstance(section, dict) and isinstance(section.get("init_args"), dict)):
            continue
        for old, renamed in _keys_of(str(section.get("class_path"))).items():
            _rename(section["init_args"], old.split("."), renamed)
        for key, values in VALUES_OF_KEYS.items():
            if section["init_args"].get(key) in values:
                section["init_args"][key] = values[section["init_args"][key]]
    return config


def _source_mix(
    schedule: dict[str, Any], num_sources: int, config: dict[str, Any]
) -> dict[str, Any] | None:
    """The mix of an old `data.schedule`: a share; cycles follow from the model's stages now."""
    if num_sources < 2 or "start_share" not in schedule:
        return None
    # The number of samples is the run's own unless another one was meant.
    samples = schedule.get("samples_per_step")
    if samples == samples_per_step(flat(config), 1):
        samples = None
    return {
        "class_path": "dofsuite.data.ShareRamp",
        "init_args": {**schedule, "samples_per_step": samples},
    }


def _keys_of(class_path: str) -> dict[str, Renamed]:
    class_path = CLASS_PATHS.get(class_path, class_path)
    return next((keys for start, keys in KEYS.items() if class_path.startswith(start)), {})


def _rename(node: Any, parts: list[str], renamed: Renamed) -> None:
    for part in parts[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or parts[-1] not in node:
        return
    value = node.pop(parts[-1])
    node[renamed.key.rpartition(".")[2]] = value if not renamed.values else renamed.values[value]


def _with_new_values(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _with_new_values(value) for k, value in node.items() if k not in REMOVED}
    if isinstance(node, list):
        return [_with_new_values(value) for value in node]
    if not isinstance(node, str):
        return node
    if node in CLASS_PATHS:
        return CLASS_PATHS[node]
    for old, new in VALUES.items():
        if node == old or (old.endswith(":") and node.startswith(old)):
            return new + node.removeprefix(old)
    return node


def class_paths(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and value of every `class_path` below plain values."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    for name, value in node.items() if isinstance(node, dict) else ():
        path = f"{key}.{name}".lstrip(".")
        if name == "class_path":
            yield path, str(value)
        else:
            yield from class_paths(value, path)
