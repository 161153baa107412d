"""Sound, alone and with pictures."""
