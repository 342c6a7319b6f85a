"""Camera Settings as Tokens (Fang et al. 2024): LightningModule and export."""
