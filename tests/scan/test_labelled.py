"""Labelled volumes of the user's: tables, ranges, CT, planes, real phantoms; bad tables end in one line."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io import read, write
from allpet.scan.core import Image
from allpet.scan.labelled import load_volume, read_table
from allpet.scan.phantom import LABEL, LABELS
from allpet.scan.simulate import simulate

TABLE = "label,name,tissue,gain,mu\n1,body,muscle,,\n2,hot,liver,2.0,0.0123\n10-20,range,lung,1,\n"
needs_data = pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is not set")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    array = torch.zeros(4, 24, 24)
    array[:, 4:20, 4:20] = 1
    array[:, 4:8, 4:8] = 2  # anterior right
    array[1:3, 14:18, 14:18] = torch.arange(10.0, 12.0)[:, None, None]
    write(Image(array, ImageGrid(24, 10.0), "1", plane_mm=5.0), tmp_path / "labels.nii.gz")
    (tmp_path / "organs.csv").write_text(TABLE)
    return tmp_path / "labels.nii.gz", tmp_path / "organs.csv"


def test_tissues_gain_and_mu_come_from_the_table(files: tuple[Path, Path]) -> None:
    volume = load_volume(*map(str, files))
    assert volume.tissue.shape == (4, 24, 24) and (volume.pixel_mm, volume.plane_mm) == (10.0, 5.0)
    assert set(np.unique(volume.tissue)) == {LABEL[name] for name in ("air", "muscle", "liver", "lung")}
    liver = volume.tissue == LABEL["liver"]
    assert np.all(volume.gain[liver] == 2) and np.all(volume.mu[liver] == np.float32(0.0123))
    assert np.all(volume.tissue[1, 14:18, 14:18] == LABEL["lung"])
    assert volume.fov_mm >= 2 * np.hypot(75, 75)


def test_simulated_planes_keep_side_order_and_amount(files: tuple[Path, Path]) -> None:
    options = dict(labels=files[0], table=files[1], views=24, bins=48, region="abdomen", slices_per_subject=4)
    data = simulate(4, slice_mm=5.0, **options)
    assert np.allclose(np.diff(data.level_mm), -5)
    liver = data.labels[0] == LABEL["liver"]
    rows, columns = np.nonzero(liver)
    assert rows.mean() < 24 and columns.mean() < 24  # anterior, the patient's right
    lung = [(plane == LABEL["lung"]).any() for plane in data.labels]
    assert lung == [False, True, True, False]
    other = simulate(4, slice_mm=5.0, tracer="PSMA", **options)
    assert np.array_equal(other.labels, data.labels) and not np.allclose(other.image, data.image)


def test_a_row_for_0_fills_what_the_ct_shows(files: tuple[Path, Path]) -> None:
    folder = files[0].parent
    hu = torch.full((4, 24, 24), -1000.0)
    hu[:, 2:22, 2:22] = 40.0
    write(Image(hu, ImageGrid(24, 10.0), "HU", plane_mm=5.0), folder / "ct.nii.gz")
    table = folder / "with-body.csv"
    table.write_text(TABLE + "0,rest,fat,,\n")
    volume = load_volume(str(files[0]), str(table), str(folder / "ct.nii.gz"))
    assert np.all(volume.tissue[:, 2, 2:22] == LABEL["fat"]) and not volume.tissue[:, 0].any()
    assert volume.mu[0, 10, 10] == pytest.approx(9.6e-6 * 1040)
    without = load_volume(str(files[0]), str(files[1]), str(folder / "ct.nii.gz"))
    assert not without.tissue[:, 2].any()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tissue\nliver\n", "must have label and tissue"),
        ("label,tissue,colour\n1,liver,red\n", "must have label and tissue"),
        ("label,tissue\n1,livr\n", "line 2: tissue 'livr' is unknown"),
        ("label,tissue\none,liver\n", "must be a number or a range"),
        ("label,tissue\n9-3,liver\n", "must be a number or a range"),
        ("label,tissue\n1,liver\n1,lung\n", "two rows"),
        ("label,tissue\n1-5,liver\n5,lung\n", "two rows"),
        ("label,tissue,gain\n1,liver,-1\n", "0 or more"),
        ("label,tissue,mu\n1,liver,0.096\n", "below 0.05"),
        ("", "must have label and tissue"),
        ("label,tissue\n1,muscle\n", "no row for label 2, 10, 11"),
        ("label,tissue\n1-20,air\n", "only background"),
    ],
)
def test_bad_tables_end_in_one_line(files: tuple[Path, Path], text: str, says: str) -> None:
    table = files[0].with_name("bad.csv")
    table.write_text(text)
    load_volume.cache_clear()
    with pytest.raises(AllpetError, match=says) as caught:
        load_volume(str(files[0]), str(table))
    assert "\n" not in str(caught.value)


def test_a_ct_of_another_grid_and_a_missing_table_are_refused(files: tuple[Path, Path]) -> None:
    folder = files[0].parent
    write(Image(torch.full((4, 20, 20), -1000.0), ImageGrid(20, 10.0), "HU"), folder / "small.nii.gz")
    with pytest.raises(AllpetError, match="must lie on one grid"):
        load_volume(str(files[0]), str(files[1]), str(folder / "small.nii.gz"))
    with pytest.raises(AllpetError, match="cannot be read"):
        read_table(folder / "absent.csv")


def test_the_shipped_table_has_every_class_once() -> None:
    rows = read_table("totalsegmentator")
    assert [row.low for row in rows] == list(range(118)) and all(row.low == row.high for row in rows)
    named = {int(row.low): row.tissue for row in rows}
    assert (named[1], named[5], named[21], named[90]) == ("spleen", "liver", "urine", "grey matter")


@needs_data
def test_segmented_abdomen_with_its_ct() -> None:
    folder = Path(os.environ["ALLPET_DATA"]) / "abdomen_ct_labels"
    files = {"labels": folder / "example_seg_fast_force_split.nii.gz", "ct": folder / "example_ct.nii.gz"}
    data = simulate(6, table="totalsegmentator", **files, region="abdomen", views=32, bins=64, slices_per_subject=6)
    found = {LABELS[value] for value in np.unique(data.labels)}
    assert found >= {"liver", "kidney cortex", "muscle", "marrow", "colon", "blood"}
    rows, columns = np.nonzero((data.labels == LABEL["liver"]).any(axis=0))
    assert columns.mean() < 32  # the liver is on the patient's right, left in the image
    back = np.nonzero((data.labels == LABEL["spinal cord"]).any(axis=0))[0]
    assert back.mean() > rows.mean()
    assert 0.0075 < np.median(data.mumap[data.labels == LABEL["muscle"]]) < 0.0102


@needs_data
@pytest.mark.parametrize(
    ("archive", "member", "table"),
    [
        (
            "brain_phantom/DaT_phantom.zip",
            "DaT_Source_120x120x120",
            "label,tissue\n10,scalp\n100,grey matter\n800,striatum\n",
        ),
        (
            "dotatate_phantom/patient_LuDOTATATE_phantoms.zip",
            "patient15_LuDOTATATE_src",
            "label,tissue\n1-400,lung\n401-950,fat\n951-1099,muscle\n1100-1999,cortical bone\n2000-30000,liver\n",
        ),
    ],
)
def test_zipped_phantoms(archive: str, member: str, table: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(os.environ["ALLPET_DATA"]) / archive) as bundle:
        for ending in (".h33", ".i33"):
            bundle.extract(member + ending, tmp_path)
    (tmp_path / "t.csv").write_text(table)
    tracer, region = ("DOPA", "brain") if "DaT" in member else ("PSMA", "abdomen")
    files = {"labels": tmp_path / f"{member}.h33", "table": tmp_path / "t.csv"}
    data = simulate(4, tracer=tracer, region=region, **files, views=32, bins=64, task="low-dose")
    assert data.observed.sum() > 0 and len(np.unique(data.labels)) >= 3
    if "DaT" in member:
        striatum = data.image[data.labels == LABEL["striatum"]]
        assert striatum.size == 0 or striatum.mean() > 1.3 * data.image[data.labels == LABEL["grey matter"]].mean()


@needs_data
def test_thorax_emission_by_ranges(tmp_path: Path) -> None:
    """An emission volume can be labelled by ranges of its values; its mu map comes from another file."""
    folder = Path(os.environ["ALLPET_DATA"]) / "thorax_phantom"
    image = read(folder / "FDG_g1.nii.gz")
    values = image.array.clamp_min(0)
    low, high = (float(v) for v in torch.quantile(values[values > 0.01], torch.tensor([0.3, 0.9])))
    table = (
        f"label,tissue\n0.00005-{low:.5f},lung\n{low + 2e-5:.5f}-{high:.5f},muscle\n{high + 2e-5:.5f}-1000,myocardium\n"
    )
    (tmp_path / "t.csv").write_text(table)
    write(Image(torch.round(values * 1e4) / 1e4, image.grid, "1", image.plane_mm), tmp_path / "v.nii.gz")
    files = {"labels": tmp_path / "v.nii.gz", "table": tmp_path / "t.csv"}
    data = simulate(3, region="chest", **files, views=32, bins=64, slices_per_subject=3)
    assert {LABELS[v] for v in np.unique(data.labels)} >= {"lung", "muscle", "myocardium"}
