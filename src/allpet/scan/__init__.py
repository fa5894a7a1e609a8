"""Scans: what a scanner measured or a simulator made, with everything needed to use it."""

from allpet.scan.core import ACTIVITY, ACTIVITY_MM, COUNTS, MU, Image, Scan

__all__ = ["ACTIVITY", "ACTIVITY_MM", "COUNTS", "MU", "Image", "Scan"]
