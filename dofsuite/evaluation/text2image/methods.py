"""A row of the text-to-image table, read from a YAML file: a generator, perhaps a post-hoc lens.

name: SDXL + TAF lens                                    # in the table
generator:
  class_path: dofsuite.evaluation.text2image.generators.SampledSdxl
  init_args: {steps: 50}
lens: {lens: {method: gather}}                           # or left out
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from dofsuite.backbones import Depth, Saliency
from dofsuite.backbones.hub import exported_part
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import weight_hashes
from dofsuite.evaluation.text2image.generators import Generator, Sampler, SampleRequest
from dofsuite.text2image import Exif, FocusPredictor, Lens
from dofsuite.text2image.camera.focus_predictor import focus_target
from dofsuite.text2image.scene import Scene
from dofsuite.text2image.settings import Text2ImageSettings
from dofsuite.yaml_tree import parse_yaml

# Former name -> name today, of a generator's module and keys. A file with a former one is refused;
# the settings stored beside rows and images keep them, so that a started evaluation goes on.
RENAMED = {
    "dofsuite.evaluation.text2image_generators": "dofsuite.evaluation.text2image.generators",
    "dofsuite.evaluation.text2image_trained": "dofsuite.evaluation.text2image.trained",
    "words": "prompt_template",
    "guidance": "guidance_scale",
    "at_once": "batch_size",
}


@dataclass(frozen=True)
class PostHocLens:
    """A lens after a generator that was trained without it.

    Attributes:
        depth: The depth model.
        saliency: The model of where to focus: on the salient depth, sum(S D) / sum(S) (supplement,
            figure A5).
        lens: `gather` is the disc of TAF; `occlusion` composites front to back, in the manner of
            Dr.Bokeh.
        focus_from: A run whose trained focus predictor is used instead; its depth model must be
            this one.
        scale_mm: f_s without a predictor, mm per unit of depth: 1000 for a depth model in meters
            (*ours*).
        scene_f_number: The generator's f-number for the one scene that the lens then photographs at
            every aperture ("EXIF-Fixed"); null generates a scene for each aperture, conditioned on
            it.
    """

    depth: Depth
    saliency: Saliency
    lens: Lens = Lens()  # noqa: RUF009  (frozen)
    focus_from: str | None = None
    scale_mm: float = 1000.0
    scene_f_number: float | None = None

    def __post_init__(self) -> None:
        if not self.scale_mm > 0:
            raise ValueError(f"scale_mm must be positive, not {self.scale_mm}")
        if self.scene_f_number is not None and not self.scene_f_number > 0:
            raise ValueError(f"scene_f_number must be positive or null, not {self.scene_f_number}")

    def scene_cameras(self, cameras: Exif) -> Exif:
        if self.scene_f_number is None:
            return cameras
        f_number = torch.full_like(cameras.f_number[:1], self.scene_f_number)
        return Exif(f_number, cameras.focal_length_mm[:1])

    def load(self, device: torch.device) -> Callable[[Tensor, Exif], Tensor]:
        """Load depth and focus; return (images [1 or n, 3, h, w], n cameras) -> [n, 3, h, w].

        Raises:
            UserError: A network cannot be loaded.
        """
        depth_model, focus = self.depth.load().to(device), self._focus(device)

        @torch.no_grad()
        def photograph(images: Tensor, cameras: Exif) -> Tensor:
            # Depth and focus of each scene.
            depth = depth_model(images)
            distance, scale_mm = focus(images, depth)
            width_px = self.lens.frame_width_px(*images.shape[-2:])

            # One camera at a time, of the one scene or of its own.
            photographs = []
            for i in range(len(cameras.f_number)):
                camera = Exif(*(numbers[i : i + 1].to(device) for numbers in cameras))
                k = i if len(images) > 1 else 0
                parts = (x[k : k + 1] for x in (images, depth, distance, scale_mm))
                scene = Scene(None, *parts)
                photographs.append(self.lens.photograph(scene, camera, width_px))
            return torch.cat(photographs).clamp(0, 1)

        return photograph

    def _focus(self, device: torch.device) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return (images, depth) -> (focus distance [n], mm per unit of depth [n])."""
        if self.focus_from is not None:
            folder = Text2ImageSettings.find(self.focus_from)
            predictor = exported_part(FocusPredictor, folder, "focus_predictor").eval().to(device)
            return lambda image, depth: predictor(image, depth)[:2]
        saliency = self.saliency.load().to(device)

        def focus_on_salient(image: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
            distance = focus_target(saliency(image), depth)
            return distance, torch.full_like(distance, self.scale_mm)

        return focus_on_salient


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: In the table.
        generator: Where the images come from.
        lens: A post-hoc lens; null for none but the generator's own.
        published: What its authors report, by column of the table, printed with ours.
    """

    name: str
    generator: Generator
    lens: PostHocLens | None = None
    published: dict[str, float] = field(default_factory=dict)

    def load(self, device: torch.device) -> Sampler:
        """Load all networks; return request -> a sweep [n, 3, h, w] in [0, 1].

        Raises:
            UserError: A network cannot be loaded.
        """
        generate = self.generator.load(device)
        if self.lens is None:
            return generate
        photograph, scene_cameras = self.lens.load(device), self.lens.scene_cameras

        def sample(request: SampleRequest) -> Tensor:
            images = generate(request._replace(cameras=scene_cameras(request.cameras)))
            return photograph(images, request.cameras)

        return sample

    def sources(self) -> dict[str, Any]:
        """Return the trained weights that the row depends on, by name, size and content.

        Raises:
            UserError: A run that it names is not there.
        """
        sources = self.generator.sources()
        if self.lens is not None and self.lens.focus_from is not None:
            folder = Text2ImageSettings.find(self.lens.focus_from)
            sources["focus"] = weight_hashes(folder / "focus_predictor")
        return sources


def read_method(file: Path) -> tuple[Method, dict[str, Any]]:
    """Read a method file: the method, and the same as plain values with every default filled in.

    Raises:
        UserError: It cannot be read, or a key or value is not accepted.
    """
    from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

    set_parsing_settings(
        docstring_parse_attribute_docstrings=True,
        import_path_denylist=["*"],
        import_path_allowlist=["dofsuite"],
    )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Method)
    try:
        config = parser.parse_object(content_of(file))
        plain = json.loads(parser.dump(config, skip_unset=False, format="json"))
        return Method(**vars(parser.instantiate(config))), plain
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"{file}: {reason_of(error)}.") from error


def content_of(file: Path) -> dict[str, Any]:
    # A YAML file.
    try:
        content = parse_yaml(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: it cannot be read; name a method file, as in experiments/baselines/."
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{file}: it is no YAML ({' '.join(str(error).split())[:160]}).") from error

    # A mapping of known keys.
    if not isinstance(content, dict) or not {"name", "generator"} <= content.keys():
        raise UserError(
            f"{file}: a method needs a name and a generator; take one of experiments/baselines/ to "
            "start."
        )
    known = Method.__dataclass_fields__
    if unknown := [key for key in content if key not in known]:
        raise UserError(
            f"{file}: {unknown[0]}: a method has no such key; it has {', '.join(known)}."
        )

    # Former names of a generator and its keys.
    generator = content["generator"]
    if isinstance(generator, dict):
        module = str(generator.get("class_path")).rpartition(".")[0]
        for name in (module, *(generator.get("init_args") or {})):
            if name in RENAMED:
                raise UserError(f"{file}: generator: {name} is called {RENAMED[name]} now.")
    return content


def with_former_names(described: dict[str, Any]) -> dict[str, Any]:
    # A method's plain values under the names of stored settings
    former = {new: old for old, new in RENAMED.items()}
    generator = described["generator"]
    module, name = generator["class_path"].rsplit(".", 1)
    return described | {
        "generator": {
            "class_path": f"{former.get(module, module)}.{name}",
            "init_args": {former.get(k, k): value for k, value in generator["init_args"].items()},
        }
    }


def reason_of(error: Exception) -> str:
    # The parser's keys and its innermost reason, in one line
    keys = re.findall(r'Parser key "([^"]+)"', str(error))
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    reason = " ".join(lines)[:300].rstrip(". ") or type(error).__name__
    return f"{'.'.join(keys)}: {reason}" if keys else reason
