"""Autoencoders, inpainting, colour, adversarial codes."""
