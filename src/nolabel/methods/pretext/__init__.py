"""Tasks whose answers come with the data."""
