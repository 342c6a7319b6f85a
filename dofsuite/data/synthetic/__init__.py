"""Data sets made from the photographs of scikit-image: layered scenes with depth, captions and EXIF."""
