"""Scanner presets: facts of a scanner as data, read from ``scanners.toml`` or a file of the user's own."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from allpet.errors import AllpetError
from allpet.geometry import RingBeam


@dataclass(frozen=True)
class Scanner:
    """A cylindrical scanner, with virtual crystals in the gaps between its blocks.

    Parameters
    ----------
    name : as STIR knows it where it does. aliases : what else a header calls it, in lower case.
    rings : detector rings. ring_mm : distance between rings.
    views, bins : size of an unmashed sinogram; there are ``2 * views`` crystal positions on a ring.
    inner_radius_mm : radius of the crystals' faces. depth_mm : mean depth of interaction.
    block : every position on the ring that is a multiple of this is a gap; 0 for none.
    max_ring_difference : largest difference kept between the two rings of a line.
    crystal_mm : transaxial, axial size and length of a crystal.
    fwhm_mm : transaxial resolution at 1 cm from the axis (NEMA, filtered back-projection).
    energy_window_kev : lower and upper threshold. energy_resolution : FWHM at 511 keV as a fraction.
    coincidence_window_ns : full width (2 tau).
    sensitivity_cps_kbq, scatter_fraction : NEMA values, for checking.
    axial_fov_mm : axial field of view.
    source : where the numbers come from, by field.
    """

    name: str
    aliases: tuple[str, ...]
    rings: int
    ring_mm: float
    views: int
    bins: int
    inner_radius_mm: float
    depth_mm: float
    block: int
    max_ring_difference: int
    crystal_mm: tuple[float, float, float]
    fwhm_mm: float
    energy_window_kev: tuple[float, float]
    energy_resolution: float
    coincidence_window_ns: float
    sensitivity_cps_kbq: float
    scatter_fraction: float
    axial_fov_mm: float
    source: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def beam(self) -> RingBeam:
        """Geometry of one sinogram."""
        return RingBeam(self.views, self.bins, self.inner_radius_mm + self.depth_mm, self.block)

    @property
    def crystals(self) -> int:
        """Crystal positions on a ring, gaps included."""
        return 2 * self.views

    @property
    def direct_planes(self) -> int:
        """Planes after single-slice rebinning: one per ring and one between neighbours."""
        return 2 * self.rings - 1


_SIZES = {"aliases": None, "crystal_mm": 3, "energy_window_kev": 2}
_MAY_BE_ZERO = ("depth_mm", "block", "max_ring_difference")


def _field(where: str, name: str, kind: str, value: Any) -> Any:
    """One value of a table, checked against the type of its field."""
    fail = f"{where}: '{name}' is {value!r}; it must be "
    if kind == "str":
        if not (isinstance(value, str) and value):
            raise AllpetError(fail + "a text")
        return value
    if name in _SIZES:
        size = _SIZES[name]
        if not isinstance(value, list) or (size is not None and len(value) != size):
            raise AllpetError(fail + ("a list of texts" if size is None else f"a list of {size} numbers"))
        inner = "str" if size is None else "float"
        return tuple(_field(where, f"{name}[{k}]", inner, part) for k, part in enumerate(value))
    word = "a whole number" if kind == "int" else "a number"
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else (int, float)):
        raise AllpetError(fail + word)
    if not math.isfinite(value) or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        raise AllpetError(fail + f"{word}, {'0 or more' if name in _MAY_BE_ZERO else 'above 0'}")
    return value if kind == "int" else float(value)


def _scanner(where: str, table: Any) -> Scanner:
    """A scanner from its table; `where` names file and table in errors."""
    if not isinstance(table, dict):
        raise AllpetError(f"{where}: is {table!r}; it must be a table, as in allpet's own scanners.toml")
    known = {part.name: str(part.type) for part in fields(Scanner)}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise AllpetError(f"{where}: '{unknown[0]}' is unknown; known are {', '.join(known)}")
    missing = [name for name in known if name not in table and name not in ("aliases", "source")]
    if missing:
        raise AllpetError(f"{where}: '{missing[0]}' is missing; add it")
    source = table.get("source", {})
    if not isinstance(source, dict):
        raise AllpetError(f"{where}: 'source' is {source!r}; it must be a table of texts")
    values = {
        name: _field(where, name, known[name], table[name]) for name in known if name in table and name != "source"
    }
    values["aliases"] = tuple(dict.fromkeys([_plain(values["name"]), *map(_plain, values.get("aliases", ()))]))
    made = Scanner(**values, source=tuple((str(key), str(text)) for key, text in source.items()))
    _check(where, made)
    return made


def _check(where: str, made: Scanner) -> None:
    """Raise where numbers contradict each other."""
    low, high = made.energy_window_kev
    if not low < 511 < high:
        raise AllpetError(f"{where}: 'energy_window_kev' is {[low, high]}; it must hold 511 keV")
    if made.bins >= made.crystals:
        raise AllpetError(f"{where}: 'bins' is {made.bins}; it must be below the {made.crystals} crystals of a ring")
    if made.max_ring_difference >= made.rings:
        raise AllpetError(f"{where}: 'max_ring_difference' is {made.max_ring_difference}; it must be below the rings")
    if made.block == 1 or (made.block and made.crystals % made.block):
        raise AllpetError(f"{where}: 'block' is {made.block}; it must be 0 or divide the {made.crystals} crystals")
    for name in ("energy_resolution", "scatter_fraction"):
        if getattr(made, name) >= 1:
            raise AllpetError(f"{where}: '{name}' is {getattr(made, name)}; it must be a fraction below 1")


def load_scanners(path: Path | str) -> dict[str, Scanner]:
    """Every scanner of a TOML file by the name of its table.

    Raises
    ------
    AllpetError : no such file, no TOML, a value missing, unknown or impossible.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AllpetError(f"{path}: cannot be read ({error}); give a TOML file of scanners") from None
    return _parse(str(path), text)


def _parse(where: str, text: str) -> dict[str, Scanner]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AllpetError(f"{where}: is no TOML ({error}); give one table for each scanner") from None
    if not tables:
        raise AllpetError(f"{where}: holds no scanner; give one table for each scanner")
    return {name: _scanner(f"{where} [{name}]", table) for name, table in tables.items()}


@lru_cache(maxsize=1)
def presets() -> dict[str, Scanner]:
    """The scanners that come with the package, by preset name."""
    return _parse("scanners.toml", files("allpet.scan").joinpath("scanners.toml").read_text(encoding="utf-8"))


def _plain(name: str) -> str:
    return " ".join(name.lower().split())


def find_scanner(name: str) -> Scanner | None:
    """The preset that a header's ``originating system`` names, or None."""
    name = _plain(name)
    return next((made for made in presets().values() if name in made.aliases), None)


def scanner(name: str | Path) -> Scanner:
    """A preset by name or alias, or the only scanner of a TOML file (``FILE.toml#TABLE`` where it holds several).

    Raises
    ------
    AllpetError : unknown name, a bad file, a file with several scanners and none chosen.
    """
    found = find_scanner(str(name))
    if found is not None:
        return found
    path, _, table = str(name).partition("#")
    if not path.endswith(".toml"):
        raise AllpetError(f"scanner {str(name)!r} is unknown; known are {', '.join(presets())}, or give a .toml file")
    made = load_scanners(path)
    if not table and len(made) == 1:
        return next(iter(made.values()))
    if table not in made:
        raise AllpetError(f"{path}: holds {', '.join(made)}; choose one as {path}#{next(iter(made))}")
    return made[table]


def __getattr__(name: str) -> Any:
    """``MMR``, the Siemens Biograph mMR, read from the presets when first asked for."""
    if name == "MMR":
        return presets()["mMR"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
