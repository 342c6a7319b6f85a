"""Running the probe on an export: the same queries and noise as in training."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dofsuite import diffusion
from dofsuite.data import Batch
from dofsuite.data.dataset import BatchLoader, HeldOutSamples, collate_or_error
from dofsuite.data.shards import ShardReader
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError
from dofsuite.files import write_json
from dofsuite.refocus.measure_config import MeasureConfig
from dofsuite.refocus.pipeline import RefocusPipeline
from dofsuite.refocus.probe import Probe, ProbeQuery, ProbeRun
from dofsuite.refocus.rendering import Rendering
from dofsuite.refocus.settings import RefocusSettings

# Of the noise and the focus points, as a run's own default.
SEED = 0
BATCH_SIZE = 16


def measure_and_print(config: MeasureConfig) -> None:
    """Print a row for the model, for what needs none and for the truth; write them if asked.

    Raises:
        UserError: The model or the scenes cannot be read.
    """
    settings = RefocusSettings.read(RefocusSettings.find(config.model))
    pipe = RefocusPipeline.from_export(config.model)
    if torch.cuda.is_available():
        pipe.to("cuda")
    # Scenes at the size of training
    if settings.size_px is None:
        raise UserError(f"{config.model}: --model: its export does not say at which size it works.")
    samples = HeldOutSamples(ShardReader(prepare(config.scenes)), settings.size_px)
    loader: DataLoader[Any] = BatchLoader(
        samples, batch_size=BATCH_SIZE, collate_fn=collate_or_error
    )
    # The probe, scored in the units that the model was trained in
    reference_width_px = pipe.camera.config.reference_width_px
    run = ProbeRun(
        Probe(scenes=config.count, sheet_scenes=0),
        Rendering(config.gamma, config.layers, reference_width_px),
        SEED,
        lambda batch, query: predict(pipe, settings, batch, query),
        token_px=2 * pipe.codec.downscale,
    )
    for batch in loader:
        if run.scenes_left <= 0:
            break
        run.update(batch)
    model = run.values()
    rows = {"model": model, **run.baselines}
    print(table(rows, run.num_scenes))
    if config.output is not None:
        write_json(config.output, {"scenes": run.num_scenes, "rows": rows})


def predict(
    pipe: RefocusPipeline, settings: RefocusSettings, batch: Batch, query: ProbeQuery
) -> Tensor:
    """Refocus for a probe query as `Refocus.predict` does; images are on the batch's device."""
    # Conditioning
    device, sampler = pipe.device, pipe.sampler
    disparity = batch.disparity * settings.uses_depth
    reference = sampler.encode(query.reference.to(device))
    depth = sampler.encode(disparity.expand(-1, 3, -1, -1).to(device))
    # Euler steps from the scene's noise
    noise = diffusion.draw_noise(depth.shape[1:], SEED, batch.index.tolist(), "probe")
    times = diffusion.euler_times(settings.num_inference_steps, settings.time_shift)
    images = sampler.refocus(
        reference,
        depth,
        query.camera.focus_point.to(device),
        query.camera.bokeh_level.to(device),
        noise.to(depth),
        times,
    )
    return images.to(batch.image_srgb)


def table(rows: dict[str, dict[str, float]], scenes: int) -> str:
    """Return a Markdown table: a row a predictor, a column a number; hit rates with their error."""
    names = [name for name in rows["truth"] if not name.endswith("_se")]
    lines = [
        f"| {scenes} scenes | {' | '.join(names)} |",
        f"|{'---|' * (len(names) + 1)}",
    ]
    for title, numbers in rows.items():
        cells = [
            f"{numbers[name]:.4f}"
            + (f" +- {numbers[f'{name}_se']:.3f}" if f"{name}_se" in numbers else "")
            for name in names
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
