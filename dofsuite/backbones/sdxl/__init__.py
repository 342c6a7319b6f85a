"""SDXL: UNet, VAE, text encoders, adapters and prediction types."""
