"""Published data sets in their own layouts: what `python -m dofsuite.data import` reads."""
