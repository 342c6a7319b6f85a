"""Fine-grained defocus control (arXiv 2510.06215): a few-step text-to-image generator with a lens in the loop."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Text2Image": "module",
        "Text2ImagePipeline": "pipeline",
        "Lens": "camera.lens",
        "Weights": "dmd2.losses",
        "Stages": "dmd2.stages",
        "Training": "dmd2.alternating",
        "FocusPredictorConfig": "networks",
        "Probe": "probe",
        "FocusPredictor": "camera.focus_predictor",
        "Exif": "camera.exif",
        "ExifEmbedder": "camera.exif",
        "Discriminator": "dmd2.discriminator",
    },
)
