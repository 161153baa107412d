"""Views agree, and dimensions do not repeat each other."""
