"""Prediction type of an SDXL network, stored in `scheduler/scheduler_config.json`."""

from pathlib import Path
from typing import Literal, cast, get_args

from diffusers import LCMScheduler
from diffusers.utils import logging

from dofsuite.backbones.hub import errors_alone, from_pretrained
from dofsuite.errors import UserError

# diffusers' names: the noise (SDXL), or v = sqrt(a_t) eps - sqrt(1 - a_t) x (some derivatives).
Prediction = Literal["epsilon", "v_prediction"]

# The only schedule supported: `dofsuite.diffusion.scaled_linear_alphas_cumprod`.
SDXL_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "rescale_betas_zero_snr": False,
}


def save_scheduler(prediction: Prediction, folder: Path) -> None:
    LCMScheduler(**SDXL_SCHEDULE, prediction_type=prediction).save_pretrained(folder / "scheduler")


def read_prediction(path: str, revision: str | None = None) -> Prediction:
    """Return what the UNet of a diffusers folder predicts.

    Args:
        path: Hub id or folder that holds `scheduler/`, of any diffusers scheduler.
        revision: Hub revision.

    Raises:
        UserError: There is no scheduler, or its noise schedule is not SDXL's.
    """
    # SDXL's own file has keys of other schedulers, of which diffusers would warn.
    with errors_alone(logging):
        config = from_pretrained(LCMScheduler, path, "scheduler", revision, None).config
    # The schedule that is supported, and a prediction type that is known.
    for key, wanted in SDXL_SCHEDULE.items():
        if config[key] != wanted:
            raise UserError(
                f"{path}: scheduler: {key} is {config[key]}, and SDXL's is {wanted}; take another "
                "SDXL."
            )
    if config["prediction_type"] not in get_args(Prediction):
        raise UserError(
            f"{path}: scheduler: prediction_type is {config['prediction_type']}; "
            f"take an SDXL that predicts {' or '.join(get_args(Prediction))}."
        )
    return cast(Prediction, config["prediction_type"])
