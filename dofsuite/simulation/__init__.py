"""Stored variants of all-in-focus images: what `python -m dofsuite.simulate` does."""
