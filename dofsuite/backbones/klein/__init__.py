"""FLUX.2 klein: its family, its codec, and its published weights."""
