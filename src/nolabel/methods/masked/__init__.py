"""Hide a part, tell it from the rest."""
