"""`evaluate text2image`: every prompt at every aperture by every method."""
