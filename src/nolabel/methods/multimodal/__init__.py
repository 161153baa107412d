"""Several modalities of one sample: image and text."""
