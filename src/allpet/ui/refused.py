"""A request that is refused, with the status that says why."""

from __future__ import annotations

from allpet.errors import AllpetError

BAD, MISSING, CONFLICT, TOO_LARGE, TOO_MANY = 400, 404, 409, 413, 429


class Refused(AllpetError):
    """One clear line and an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
