"""A teacher that is a slower self, or another net."""
