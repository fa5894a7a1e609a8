"""Images from sinograms: filtered back-projection, MLEM and OSEM, and whole scans."""

from allpet.recon.fbp import fbp
from allpet.recon.osem import mlem, osem

__all__ = ["fbp", "mlem", "osem"]
