"""What the papers trained: encoder, batch and length for the fields that stand in the method files."""
