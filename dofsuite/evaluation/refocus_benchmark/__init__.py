"""`evaluate build-benchmark`: all-in-focus images and depth in, a refocus benchmark out."""
