"""Numbers that must not move unnoticed: default fields and first losses of every method."""
