"""Experiments: read strictly (file, sweep line, command line; one sentence for a mistake) and run in their folder."""
