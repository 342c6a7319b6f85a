"""FLUX: the transformer, its VAE, and LoRA."""
