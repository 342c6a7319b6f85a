"""Fine-grained defocus control (arXiv 2510.06215): a few-step text-to-image generator with a lens in the loop."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Text2Image": "module",
        "Text2ImagePipeline": "pipeline",
        "Lens": "lens",
        "Weights": "losses",
        "Stages": "turns",
        "Training": "taking_turns",
        "FocusSize": "networks",
        "Probe": "probe",
        "FocusPredictor": "focus",
        "Exif": "exif",
        "ExifEmbedder": "exif",
        "CameraSettings": "camera_tokens",
        "CameraTokens": "camera_tokens",
        "Discriminator": "discriminator",
        "DepthStandIn": "stand_ins",
        "SaliencyStandIn": "stand_ins",
    },
)
