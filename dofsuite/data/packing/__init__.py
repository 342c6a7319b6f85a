"""Photographs in, shards out: what `python -m dofsuite.data pack` does."""
