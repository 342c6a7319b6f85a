"""Whether a checkpoint's weights are the ones that a module trains, told before they are loaded."""

from collections.abc import Mapping

from torch import Tensor, nn

from dofsuite.errors import UserError


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
    here = {
        name: list(weight.shape)
        for name, weight in module.named_parameters()
        if weight.requires_grad
    }
    there = {name: list(weight.shape) for name, weight in state.items()}

    # Names of the trained weights.
    if not here.keys() & there.keys():
        raise UserError(
            f"continue_from: that run trained none of the weights of {type(module).__name__} (but "
            f"{min(there, default='nothing')}): name a run of the same model."
        )
    for name in sorted(here.keys() ^ there.keys()):
        where = "here and not in that run" if name in here else "in that run and not here"
        raise UserError(
            f"continue_from: {name} is trained {where}: set {names} as that run's config.yaml has "
            "it."
        )

    # Their shapes.
    for name, shape in here.items():
        if shape != there[name]:
            raise UserError(
                f"continue_from: {name} has the shape {there[name]} in that run and {shape} here: "
                f"set {shapes} as that run's config.yaml has it."
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
