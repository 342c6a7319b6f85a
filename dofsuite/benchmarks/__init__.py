"""What `python -m dofsuite.bench` measures: a module a benchmark, each with its floor."""
