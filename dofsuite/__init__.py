"""Depth of field that can be set like a camera's, in generative models.

Importing this name imports nothing else. Docstrings and field help mark every choice: *stated* (in
the paper, its supplement or its published code), *inferred* (from it) or *ours*; a departure is
written "Paper: X. Here: Y, because Z." docs/reproduction.md collects them.
"""
