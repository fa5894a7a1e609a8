"""The model in a worker: loaded once a process, and the very one that the command uses."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allpet.errors import AllpetError

if TYPE_CHECKING:
    from allpet.model import AllPET

_LOADED: dict[str, AllPET] = {}


@dataclass(frozen=True)
class Weights:
    """Which model: its folder (None for the shipped one) and its hash."""

    folder: str | None
    hash: str

    @classmethod
    def of(cls, model: AllPET) -> Weights:
        """Those of a model that was loaded; this process uses it from now on."""
        found = cls(None if model.shipped else model.source, model.hash)
        _LOADED.clear()
        _LOADED[found.hash] = model
        return found

    def load(self) -> AllPET:
        """The model, loaded when it is first asked for.

        Raises
        ------
        AllpetError : as :meth:`allpet.model.AllPET.from_pretrained`; the folder holds other weights here.
        """
        if self.hash not in _LOADED:
            from allpet.model import AllPET

            model = AllPET.from_pretrained(self.folder)
            if model.hash != self.hash:
                raise AllpetError(
                    f"worker on {platform.node()}: the model {self.folder or 'shipped'} is {model.hash} there, the "
                    f"command uses {self.hash}; give all workers the same weights"
                )
            _LOADED.clear()
            _LOADED[self.hash] = model
        return _LOADED[self.hash]
