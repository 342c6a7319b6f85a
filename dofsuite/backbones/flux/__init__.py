"""FLUX.1: its family, and its published weights."""
