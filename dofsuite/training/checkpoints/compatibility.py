"""Whether a checkpoint's weights are the ones that a module trains, told before they are loaded."""

from collections.abc import Mapping

from torch import Tensor, nn

from dofsuite.errors import UserError
from dofsuite.state_dicts import first_difference


def check_compatible(
    state: Mapping[str, Tensor], module: nn.Module, *, names: str, shapes: str
) -> None:
    """Compare a checkpoint's weights with what a module trains, for modules that save just that.

    torch answers a page of sizes for weights of other shapes. Other names it loads in part, until
    the optimizer's state does not fit.

    Args:
        state: The checkpoint's `state_dict`.
        module: Its trained weights are those that require a gradient.
        names: Keys of the experiment that decide which weights are trained.
        shapes: Keys of the experiment that decide how large they are.

    Raises:
        UserError: One differs; names it and the keys to set.
    """
    here = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    # Another model
    if not here.keys() & state.keys():
        raise UserError(
            f"continue_from: that run trained none of the weights of {type(module).__name__} (but "
            f"{min(state, default='nothing')}): name a run of the same model."
        )
    # Other weights of this model
    difference = first_difference(here, state)
    if difference is None:
        return
    name = difference.name
    if difference.here is None or difference.there is None:
        in_run = difference.here is None
        where = "in that run and not here" if in_run else "here and not in that run"
        raise UserError(
            f"continue_from: {name} is trained {where}: set {names} as that run's config.yaml has "
            "it."
        )
    raise UserError(
        f"continue_from: {name} has the shape {difference.there} in that run and "
        f"{difference.here} here: set {shapes} as that run's config.yaml has it."
    )


# Part of a weight's name in checkpoints and exports from before it was renamed -> the part now.
FOCUS_PREDICTOR_STATE_DICT = {
    ".towers.": ".encoders.",
    ".crossings.": ".cross_blocks.",
    ".ask.": ".task_attention.",
}
TEXT2IMAGE_STATE_DICT = {
    "networks.head.": "networks.discriminator.",
    "average.": "ema_generator.",
    **FOCUS_PREDICTOR_STATE_DICT,
}


def renamed(state: Mapping[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Return a state dict with parts of its names replaced, those at the start of a name once."""
    names = {}
    for name in state:
        new = f".{name}"
        for old, part in parts.items():
            new = new.replace(f".{old.removeprefix('.')}", f".{part.removeprefix('.')}")
        names[name] = new.removeprefix(".")
    return {names[name]: value for name, value in state.items()}
