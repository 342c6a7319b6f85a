"""Camera Settings as Tokens (Fang et al. 2024): tokens, LightningModule and export."""
