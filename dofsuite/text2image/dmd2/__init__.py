"""Distribution matching distillation (DMD2): losses, sampling, denoiser, discriminator, alternating optimization."""
