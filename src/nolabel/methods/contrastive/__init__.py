"""Alike attracts, all else repels."""
