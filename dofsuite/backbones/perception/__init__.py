"""Frozen networks that look at images: depth, saliency, segmentation, CLIP, captions."""
