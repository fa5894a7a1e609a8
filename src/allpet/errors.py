"""The one exception that a user is meant to see."""

from __future__ import annotations


class AllpetError(ValueError):
    """Bad input: the message is one line that says which file or value, what is wrong, what would be right.

    The command line prints that line and ends with exit code 2, without a traceback.
    """
