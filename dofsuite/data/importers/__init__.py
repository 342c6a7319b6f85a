"""Published data sets in their own layouts: what `python -m dofsuite.data import` reads."""

# Of a folder of real pairs; here, where nothing heavy is imported.
PAIRS_FILE = "pairs.json"
