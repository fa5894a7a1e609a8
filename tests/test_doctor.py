"""allpet doctor says what is there, and how to get what is not."""

import pytest

from allpet import doctor
from allpet.cli import main


def test_everything_is_well_here(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in ("allpet", "Python", "torch", "extra ui", "GPU", "processor", "weights"):
        assert any(line.startswith(word) for line in printed.splitlines())
    assert all(one.well for one in doctor.examine() if not one.what.startswith("extra"))


def test_what_is_missing_comes_with_how_to_get_it(monkeypatch, capsys):
    known = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: None if name in ("fastapi", "zarr") else known(name))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("extra ui") and "missing: fastapi" in line and "allpet[ui]" in line for line in lines)
    assert any(line.startswith("zarr") and "missing" in line and "pip install allpet" in line for line in lines)


@pytest.mark.parametrize("extra", doctor.EXTRAS)
def test_extras_are_those_of_the_package(extra):
    from importlib.metadata import metadata

    assert extra in metadata("allpet").get_all("Provides-Extra")
