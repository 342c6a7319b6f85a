"""A run in its folder: record, log, progress, signals, global batch."""
