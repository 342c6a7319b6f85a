"""The page: its tabs, its look, and a server that this computer alone can reach."""

from pathlib import Path

import gradio as gr

from dofsuite.app.lens_tab import LensTab
from dofsuite.app.models import Models
from dofsuite.app.refocus_tab import RefocusTab
from dofsuite.app.text2image_tab import Text2ImageTab
from dofsuite.app.workspace import example_workspace
from dofsuite.errors import UserError
from dofsuite.photography import DepthEstimator

TITLE = "dofsuite"
FONT = ("system-ui", "sans-serif")
MAX_FILE_SIZE = "300mb"
MAX_WAITING = 32
CSS = Path(__file__).with_name("page.css")
DARK = "() => document.body.classList.add('dark')"


def build_page(models: Models, estimate: DepthEstimator, folder: Path) -> gr.Blocks:
    """Lay out the page; a model brings its tab.

    Raises:
        UserError: The embedded photograph is not there.
    """
    example = example_workspace()
    with gr.Blocks(
        analytics_enabled=False, title=TITLE, fill_width=True, delete_cache=(600, 3600)
    ) as page:
        with gr.Tab("Lens"):
            lens = LensTab(estimate, example, folder)
        if models.refocus is not None:
            with gr.Tab("Refocus") as tab:
                RefocusTab(models.refocus, lens).watch(tab)
        if models.text2image is not None:
            with gr.Tab("Text to image"):
                Text2ImageTab(models.text2image)
    return page


def serve(page: gr.Blocks, port: int | None, is_browser_opened: bool) -> None:
    """Serve the page at 127.0.0.1 until Ctrl-C.

    Raises:
        UserError: The port is taken.
    """
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    # Every argument that an environment variable could change is given
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            inbrowser=is_browser_opened,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MAX_FILE_SIZE,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            theme=gr.themes.Base(primary_hue="amber", neutral_hue="neutral", font=FONT),
            css_paths=[CSS],
            js=DARK,
        )
    except OSError as error:
        raise UserError(
            f"--port: {port} is taken; name another, or none for a free one."
        ) from error
    print(f"{address} (Ctrl-C ends it)", flush=True)
    page.block_thread()
