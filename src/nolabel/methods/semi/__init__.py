"""Few labels and many samples without one."""
