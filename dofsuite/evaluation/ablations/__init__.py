"""`evaluate table`: the runs of a sweep in one table."""
