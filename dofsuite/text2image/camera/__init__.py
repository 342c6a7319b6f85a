"""From a generated image to its photograph: EXIF, focus predictor and lens."""
