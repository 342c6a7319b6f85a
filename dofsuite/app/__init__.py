"""A page to click on: focus and blur any photograph, and try the models."""
