"""Checkpoints: written atomically, resumed bit for bit, compared with the run that reads them."""
