"""FSDP2 for networks that are optimized alternately."""
