"""The sessions of a server: each a page's work, unseen by the others."""

from __future__ import annotations

import secrets
import threading
import time

from allpet.ui.jobs import Jobs
from allpet.ui.keep import open_work
from allpet.ui.library import Library, Loaded
from allpet.ui.refused import MISSING, TOO_MANY, Refused
from allpet.ui.work import Work

MAX_SESSIONS = 16
IDLE_S = 120.0
"""Where there are too many, one that nobody has used for so long, and that runs no job, gives way."""


class Sessions:
    """Parameters
    ----------
    idle_s : see :data:`IDLE_S`.
    """

    def __init__(self, library: Library, jobs: Jobs, idle_s: float = IDLE_S) -> None:
        self.library, self.jobs, self.idle_s = library, jobs, idle_s
        self._lock = threading.Lock()
        self._works: dict[str, Work] = {}

    def open(self, scan: str | None, fresh: bool) -> tuple[Work, Loaded]:
        """Begin one, on the first scan by default.

        Raises
        ------
        Refused : no such scan, or too many sessions. AllpetError : the scan cannot be read.
        """
        with self._lock:
            self._make_room()
        loaded = self.library.get(self.library.names()[0] if scan is None else scan)
        work = open_work(secrets.token_urlsafe(12), loaded, self.library, fresh)
        with self._lock:
            self._make_room()
            self._works[work.session] = work
        return work, loaded

    def get(self, session: str) -> tuple[Work, Loaded]:
        """A session and its scan.

        Raises
        ------
        Refused : there is none, or its scan has changed on the disk.
        """
        work = self.get_work(session)
        return work, self.library.get(work.name, work.hash)

    def get_work(self, session: str) -> Work:
        """A session alone.

        Raises
        ------
        Refused : there is none.
        """
        with self._lock:
            work = self._works.get(session)
            if work is None:
                raise Refused(MISSING, "there is no such session; it has ended, or gave way to others")
            work.used = time.monotonic()
        return work

    def end(self, session: str) -> None:
        """End one, with its jobs."""
        with self._lock:
            if self._works.pop(session, None) is None:
                raise Refused(MISSING, "there is no such session")
        self.jobs.drop(session)

    def _make_room(self) -> None:
        if len(self._works) < MAX_SESSIONS:
            return
        now = time.monotonic()
        idle = [
            work
            for work in self._works.values()
            if now - work.used >= self.idle_s and not self.jobs.running(work.session)
        ]
        if not idle:
            raise Refused(TOO_MANY, f"{MAX_SESSIONS} sessions are open; end one, or wait until one has been idle")
        oldest = min(idle, key=lambda work: work.used)
        del self._works[oldest.session]
        self.jobs.drop(oldest.session)
