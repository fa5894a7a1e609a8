"""The command ``allpet ui``: thin, like all of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from allpet.errors import AllpetError

Source = Positional[Annotated[Path | None, arg(metavar="[IN]")]]
_EXTRA = "allpet ui needs its extra: pip install 'allpet[ui]'"


@dataclass
class Ui:
    """Regions drawn on a scan's image in the browser, their attention on the sinogram, and what tasks make of it."""

    source: Source = None
    """Scan to read, or a folder of scans; default: a simulated scan."""
    port: int = 8765
    """Port to listen at; 0 for any that is free."""
    host: str = "127.0.0.1"
    """Address to listen at; another than this computer's own lets others in who have the token."""
    out: Path | None = None
    """Folder for work folders (SCAN-attention); default: beside the scan."""
    model: Path | None = None
    """Model folder; default: the shipped weights."""
    browser: bool = True
    """Open the page in a browser."""

    def run(self) -> None:
        try:
            import fastapi  # noqa: F401
            import uvicorn  # noqa: F401
        except ImportError:
            raise AllpetError(_EXTRA) from None
        from allpet.ui.serve import serve

        if not 0 <= self.port <= 65535:
            raise AllpetError(f"port is {self.port}; it must be from 0 to 65535")
        serve(self.source, self.host, self.port, self.out, self.model, self.browser)
