"""No test is timed: hypothesis judges answers, however slow or busy the machine is."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
