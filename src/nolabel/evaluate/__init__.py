"""Protocols that judge a frozen encoder: one file each, none of which knows how it was trained."""
