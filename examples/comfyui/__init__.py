"""A ComfyUI node: the camera of a refocus adapter as CONDITIONING; it needs no dofsuite.

Copy this folder into ComfyUI's `custom_nodes/`. All else is stock: LoraLoaderModelOnly for the
adapter's `pytorch_lora_weights.safetensors`, VAEEncode for photograph and depth, and the graph of
`workflow.json`. docs/comfyui.md says which part of the adapter goes where.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

PX_PER_LATENT = 8  # FLUX's VAE


class RefocusCamera:
    """(x, y, bokeh) and two references to the conditioning of a refocus adapter."""

    CATEGORY = "conditioning/dofsuite"
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "condition"

    @classmethod
    def INPUT_TYPES(cls):
        fraction = {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.001}
        return {
            "required": {
                "export": ("STRING", {"default": "runs/refocus/export"}),
                "photo": ("LATENT",),
                "depth": ("LATENT", {"tooltip": "disparity, near is white; without depth: black"}),
                "focus_x": ("FLOAT", fraction),
                "focus_y": ("FLOAT", fraction),
                "bokeh": ("FLOAT", {"default": 10.0, "min": 0.0, "max": 40.0, "step": 0.1}),
            }
        }

    def condition(self, export, photo, depth, focus_x, focus_y, bokeh):
        folder = Path(export)
        settings = json.loads((folder / "refocus.json").read_text())
        camera = json.loads((folder / "camera_embedder" / "config.json").read_text())
        weights = load_file(folder / "camera_embedder" / "diffusion_pytorch_model.safetensors")
        if settings["position_ids"] != "kontext":
            raise ValueError(
                f"{folder}: position_ids: ComfyUI numbers references 1, 2; an adapter trained with "
                f"{settings['position_ids']!r} cannot be used."
            )
        if settings.get("conditions", "full") != "full":
            raise ValueError(
                f"{folder}: conditions: ComfyUI's FLUX.1 attends fully; an adapter trained with "
                f"{settings['conditions']!r} cannot be used."
            )
        # A level counts at the long side, the token's at the square of training
        long_side_px = PX_PER_LATENT * max(photo["samples"].shape[-2:])
        level = bokeh * (long_side_px / settings["size_px"])
        # The camera token, in place of the text
        point = torch.tensor([[focus_x, focus_y]])
        point = point * 2 - 1 if camera["focus_range"] == "signed" else point
        numbers = torch.cat([point, torch.tensor([[level / camera["level_scale"]]])], dim=1)
        token = linear(numbers, weights["projector.weight"], weights["projector.bias"])
        if "text_tokens" in weights:  # the empty prompt's, where the adapter was trained with them
            token = torch.cat([token, weights["text_tokens"]])
        extra = {
            "pooled_output": weights["pooled_text"][None],
            "guidance": settings["guidance_embed"],
            "reference_latents": [photo["samples"], depth["samples"]],
            "reference_latents_method": "index",
        }
        return ([[token[None], extra]],)


NODE_CLASS_MAPPINGS = {"RefocusCamera": RefocusCamera}
NODE_DISPLAY_NAME_MAPPINGS = {"RefocusCamera": "Refocus camera (dofsuite)"}
