"""Pretrained and small networks. With the pipelines, the only importers of diffusers, transformers and peft."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Backbone": "flux",
        "FluxModules": "flux",
        "PretrainedFlux": "flux",
        "RandomFlux": "flux",
        "SmallFlux": "flux",
        "Lora": "lora",
        "Codec": "codec",
        "SpaceToDepthCodec": "codec",
        "VaeCodec": "codec",
        "Prediction": "schedule",
        "PretrainedSdxl": "sdxl",
        "RandomSdxl": "sdxl",
        "Sdxl": "sdxl",
        "SdxlModules": "sdxl",
        "SmallSdxl": "sdxl",
        "SdxlPromptEncoder": "sdxl_text",
        "PromptEmbeds": "text",
        "PromptEncoder": "text",
        "WordEncoder": "text",
        "Depth": "depth",
        "DepthAnything": "depth",
        "DepthModel": "depth",
        "RandomDepth": "depth",
        "SmallDepth": "depth",
        "Metric3D": "metric3d",
        "BiRefNet": "saliency",
        "Saliency": "saliency",
        "SaliencyModel": "saliency",
        "SmallSaliency": "saliency",
    },
)
