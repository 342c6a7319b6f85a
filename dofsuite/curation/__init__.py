"""Curating photographs into training sets: what `python -m dofsuite.curate` does."""
