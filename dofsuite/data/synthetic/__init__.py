"""Synthetic sets from scikit-image's photographs: layered scenes with depth, captions and EXIF."""
