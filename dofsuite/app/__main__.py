"""A page on this computer: click where a photograph should be sharp, drag how much is blurred.

python -m dofsuite.app [RUN_OR_EXPORT...] [--port N] [--no-browser]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dofsuite.cli import Parser, add_options, config_from, option, run_command_line
from dofsuite.depth_options import DEPTH_MODEL
from dofsuite.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """The command line's options."""

    models: tuple[Path, ...] = option(
        type=Path,
        nargs="*",
        default=(),
        metavar="RUN_OR_EXPORT",
        help="of refocus or text2image, one of each: a tab for each",
    )
    depth_model: str | None = option("--depth-model", **DEPTH_MODEL)
    download: bool = option(
        "--download",
        default=False,
        action="store_true",
        help="let models be downloaded; without it nothing leaves this computer",
    )
    port: int | None = option(
        "--port", type=int, default=None, help="of 127.0.0.1; by default the first free from 7860"
    )
    no_browser: bool = option(
        "--no-browser", default=False, action="store_true", help="print the address only"
    )

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise UserError(f"--port: {self.port} must be from 1 to 65535.")


def parser() -> Parser:
    parser = Parser("app", "A page to click on: depth of field for photographs, and the models.")
    add_options(parser, AppConfig)
    return parser


def run(config: AppConfig) -> None:
    """Check, load, and serve until Ctrl-C.

    Raises:
        UserError: Gradio is not installed, or a model cannot be loaded.
    """
    for folder in config.models:
        if not folder.exists():
            raise UserError(f"{folder}: RUN_OR_EXPORT: there is no such folder; check the path.")
    if find_spec("gradio") is None:
        raise UserError(
            "app: the page needs Gradio: pip install 'gradio>=6.16' (or dofsuite[app])."
        )
    # Before libraries read them: no setting of Gradio but ours, and nothing from outside
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if not config.download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="dofsuite-app-") as temporary:
        os.environ["GRADIO_TEMP_DIR"] = temporary
        _load_and_serve(config, Path(temporary))


def _load_and_serve(config: AppConfig, folder: Path) -> None:
    from dofsuite.app.models import load_models
    from dofsuite.app.page import build_page, serve
    from dofsuite.photography import DepthEstimator

    estimate = DepthEstimator(config.depth_model)
    if config.depth_model is not None or config.download:
        _ = estimate.model
    page = build_page(load_models(config.models), estimate, folder)
    serve(page, config.port, is_browser_opened=not config.no_browser)


def main(argv: Sequence[str] | None = None) -> int:
    def start(arguments: argparse.Namespace) -> None:
        run(config_from(AppConfig, arguments))

    try:
        return run_command_line(start, parser(), argv)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
