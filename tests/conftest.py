"""Settings of every test session."""

import gc

# Collecting garbage among the millions of objects that torch, diffusers and the tests' modules
# leave takes a fifth of the session: they are set aside once all tests are collected.
gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
