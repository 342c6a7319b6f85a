"""`evaluate run`: methods on a refocus benchmark, scored and put in tables."""
