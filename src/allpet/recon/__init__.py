"""Images from sinograms: filtered back-projection, MLEM and OSEM, and whole scans."""

from allpet.recon.fbp import fbp
from allpet.recon.osem import mlem, osem
from allpet.recon.whole import reconstruct

__all__ = ["fbp", "mlem", "osem", "reconstruct"]
