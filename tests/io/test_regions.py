"""Regions in files: what comes back is what was written, other grids are looked up in place, hostile files refused."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io import read, write
from allpet.io.regions import label_image, read_regions, region_to_json, regions_of_json, write_regions
from allpet.mask import Region
from allpet.mask.outline import draw
from allpet.scan.core import Image

GRID = ImageGrid(32, 4.0)
SHAPE = (3, 32, 32)
IMAGE = Image(torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)), GRID, plane_mm=3.0)
DISK = {"type": "ellipse", "centre_mm": [18.0, -9.0], "axes_mm": [20.0, 14.0], "angle_deg": 20.0}


def two() -> list[Region]:
    hot = np.zeros(SHAPE, np.float32)
    hot[0:2] = draw(DISK, GRID)
    cold = np.zeros(SHAPE, np.float32)
    cold[2, 20:25, 4:9] = 1
    return [
        Region.from_mask("lesion", hot, kind="hot", strength=2.5, why="41 % of 8.2", score=3.0),
        Region.from_mask("centre", cold, kind="cold", strength=-0.5),
    ]


def test_json_gives_regions_back_to_the_bit(tmp_path: Path) -> None:
    write_regions(two(), tmp_path / "r.json")
    for one, other in zip(two(), read_regions(tmp_path / "r.json", IMAGE), strict=True):
        assert one.hash == other.hash and (one.name, one.why, one.score) == (other.name, other.why, other.score)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(-0.99, 99), st.sampled_from(["hot", "cold", "roi"]))
def test_any_region_survives_json(seed: int, strength: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random(SHAPE) < rng.uniform(0.001, 0.5)) * rng.random(SHAPE)
    mask[tuple(rng.integers(0, side) for side in SHAPE)] = 1
    region = Region.from_mask("r", mask, strength=strength, kind=kind)
    text = json.dumps({"allpet_regions": 1, "regions": [region_to_json(region)]})
    assert regions_of_json(json.loads(text), SHAPE, GRID)[0].hash == region.hash


def test_a_label_map_opens_elsewhere_and_comes_back_with_names(tmp_path: Path) -> None:
    write(label_image(two(), IMAGE), tmp_path / "roi.nii.gz")
    file = nibabel.load(tmp_path / "roi.nii.gz")
    assert file.get_data_dtype() == np.uint8 and sorted(np.unique(file.dataobj)) == [0, 1, 2]
    write(IMAGE, tmp_path / "image.nii.gz")
    assert np.allclose(file.affine, nibabel.load(tmp_path / "image.nii.gz").affine)
    found = read_regions(tmp_path / "roi.nii.gz", IMAGE)
    assert [(r.name, r.kind, r.strength) for r in found] == [("lesion", "hot", 2.5), ("centre", "cold", -0.5)]
    assert np.array_equal(found[0].on(SHAPE), two()[0].on(SHAPE) >= 0.5)
    assert np.array_equal(found[1].on(SHAPE), two()[1].on(SHAPE))


def test_a_map_of_another_program_on_another_grid_is_looked_up_in_the_patient(tmp_path: Path) -> None:
    """Finer pixels, a crop off the middle, planes in the other order: as 3D Slicer may write it."""
    fine = ImageGrid(128, 1.0)
    drawn = draw(DISK, fine) > 0.5
    array = np.zeros((3, 128, 128), np.uint8)
    array[1] = drawn * 7
    ours = Image(torch.from_numpy(array.astype(np.float32)), fine, "label", 3.0)
    write(ours, tmp_path / "own.nii.gz")
    file = nibabel.load(tmp_path / "own.nii.gz")
    cropped = file.slicer[30:110, 40:120, :]
    turned = cropped.as_reoriented(nibabel.orientations.axcodes2ornt("RAS"))
    plain = nibabel.Nifti1Image(np.asarray(turned.dataobj).astype(np.int16), turned.affine)
    nibabel.save(plain, tmp_path / "other.nii.gz")
    found = read_regions(tmp_path / "other.nii.gz", IMAGE)
    assert len(found) == 1 and found[0].name == "region 7" and found[0].planes == range(1, 2)
    assert np.abs(found[0].on(SHAPE)[1] - draw(DISK, GRID)).max() < 0.3
    assert found[0].voxels == pytest.approx(draw(DISK, GRID).sum(), rel=0.02)


def test_weights_between_0_and_1_are_one_region(tmp_path: Path) -> None:
    weights = np.zeros(SHAPE, np.float32)
    weights[1, 5:9, 5:9] = np.linspace(0.2, 1, 16).reshape(4, 4)
    write(Image(torch.from_numpy(weights), GRID, "1", 3.0), tmp_path / "w.nii.gz")
    found = read_regions(tmp_path / "w.nii.gz", IMAGE)
    assert len(found) == 1 and np.abs(found[0].on(SHAPE) - weights).max() < 1 / 255


def test_a_map_elsewhere_in_the_patient_is_refused(tmp_path: Path) -> None:
    labels = label_image(two(), IMAGE)
    write(replace(labels, header={"nifti centre (mm)": "900.0, 0.0, 0.0"}), tmp_path / "far.nii.gz")
    with pytest.raises(AllpetError, match="outside of the image"):
        read_regions(tmp_path / "far.nii.gz", IMAGE)


@pytest.mark.parametrize(
    ("values", "message"),
    [([0.0, 2.5], "whole numbers"), ([-1.0, 0.0], "whole numbers"), ([0.0, 0.0], "holds no region")],
)
def test_values_that_are_no_labels_are_refused(tmp_path: Path, values: list[float], message: str) -> None:
    array = torch.zeros(SHAPE)
    array[0, 0, 0], array[0, 0, 1] = values
    write(Image(array, GRID, "x", 3.0), tmp_path / "bad.nii.gz")
    with pytest.raises(AllpetError, match=message):
        read_regions(tmp_path / "bad.nii.gz", IMAGE)


def entry(**changes: object) -> dict:
    return {"name": "r", "shapes": [DISK]} | changes


def test_shapes_are_placed_on_their_planes_and_combined() -> None:
    hole = DISK | {"axes_mm": [8.0, 6.0]}
    data = {"allpet_regions": 1, "regions": [entry(shapes=[DISK, hole], combine="difference", planes=[1, 2])]}
    region = regions_of_json(data, SHAPE, GRID)[0]
    whole = region.on(SHAPE)
    assert not whole[0].any() and np.array_equal(whole[1], whole[2])
    assert np.abs(whole[1] - np.minimum(draw(DISK, GRID), 1 - draw(hole, GRID))).max() < 1 / 255
    assert len(regions_of_json({"allpet_regions": 1, "regions": [entry()]}, SHAPE, GRID)[0].levels) == 3


BOMB = {"start": [0, 0, 0], "shape": [1, 2, 2], "zlib": "eJztwTEBAAAAwqD1T20ND6AAAAAAAAAAAAAA4N8AKvgAAQ=="}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must be an object"),
        ({"allpet_regions": 2, "regions": []}, "must be an object"),
        ({"allpet_regions": 1, "regions": []}, "list of 1 to"),
        ({"allpet_regions": 1, "regions": [3]}, "must be an object"),
        ({"allpet_regions": 1, "regions": [{"name": "x"}]}, "region 'x': needs shapes"),
        ({"allpet_regions": 1, "regions": [entry(kind="warm")]}, "kind 'warm' is unknown"),
        ({"allpet_regions": 1, "regions": [entry(strength="2")]}, "must be a number"),
        ({"allpet_regions": 1, "regions": [entry(strength=-1)]}, "above -1"),
        ({"allpet_regions": 1, "regions": [entry(strength=float("nan"))]}, "must be a number"),
        ({"allpet_regions": 1, "regions": [entry(planes=[0, 3])]}, "from 0 to 2"),
        ({"allpet_regions": 1, "regions": [entry(planes=[True, 2])]}, "from 0 to 2"),
        ({"allpet_regions": 1, "regions": [entry(combine="xor")]}, "combined by"),
        ({"allpet_regions": 1, "regions": [entry(shapes=[{"type": "ellipse"}])]}, "2 numbers"),
        ({"allpet_regions": 1, "regions": [{"voxels": BOMB}]}, "voxels cannot be read"),
        ({"allpet_regions": 1, "regions": [{"voxels": BOMB | {"shape": [9, 9, 9]}}]}, "does not fit"),
        ({"allpet_regions": 1, "regions": [{"voxels": BOMB | {"zlib": "%%%"}}]}, "voxels cannot be read"),
        ({"allpet_regions": 1, "regions": [{"voxels": BOMB | {"start": [0, 0, 0.5]}}]}, "three integers"),
    ],
)
def test_hostile_json_is_refused(tmp_path: Path, data: object, message: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(AllpetError, match=message) as error:
        read_regions(tmp_path / "r.json", IMAGE)
    assert str(error.value).startswith(str(tmp_path / "r.json"))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"allpet_regions": NaN}', "\x00\xff"])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text, encoding="latin-1")
    with pytest.raises(AllpetError, match=r"r\.json: "):
        read_regions(tmp_path / "r.json", IMAGE)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("x")
    for name, message in (("r.txt", "are read from"), ("none.json", "does not exist"), ("none.nii.gz", "not exist")):
        with pytest.raises(AllpetError, match=message):
            read_regions(tmp_path / name, IMAGE)


def test_labels_stay_whole_numbers_through_our_reader(tmp_path: Path) -> None:
    write(label_image(two(), IMAGE), tmp_path / "roi.nii.gz")
    assert read(tmp_path / "roi.nii.gz").unit == "label"
