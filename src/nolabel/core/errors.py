"""What is said to the user in one line. Does without torch, so that a slip need not wait for torch."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. Its text is one line: what is wrong, where, what to do. The command exits with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Words to end an error with: the nearest known name, or all known names where they are few."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1, 0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f" (there are: {', '.join(sorted(known))})" if 0 < len(known) <= 24 else ""
