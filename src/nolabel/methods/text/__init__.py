"""Language models: words from other words."""
