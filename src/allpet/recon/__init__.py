"""Images from sinograms: filtered back-projection, MLEM and OSEM with resolution and prior, and whole scans."""

from allpet.recon.fbp import fbp
from allpet.recon.osem import mlem, osem
from allpet.recon.prior import RelativeDifference
from allpet.recon.whole import reconstruct

__all__ = ["RelativeDifference", "fbp", "mlem", "osem", "reconstruct"]
