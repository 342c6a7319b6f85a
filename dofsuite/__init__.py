"""Depth of field that can be set like a camera's, in generative models. Importing this name imports nothing else."""
