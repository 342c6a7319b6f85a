"""Packing photographs into shards: what `python -m dofsuite.data pack` does."""
