"""Five folds over patients: nobody is tested by a model that learned from them, and the adapted one is really used."""

import json
import sys

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.model import AllPET
from allpet.report import low_dose_table
from allpet.report.low_dose_table import image_of, patient_slices
from allpet.study import __main__ as study
from allpet.study import patients
from model_support import tiny

PEOPLE, FOLDS = 4, 2


def write_patients(folder) -> None:
    """Bodies of 9 x 11 x 7 voxels, each with a hot, marked tumour off the middle, in a folder like the real one."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    for k in range(PEOPLE):
        place = folder / f"STS_{k + 1:03d}"
        place.mkdir(parents=True)
        volume, mask = 1 + 0.2 * rng.random((9, 11, 7)), np.zeros((9, 11, 7))
        mask[5:8, 7:10, 3] = mask[6, 8, 2] = 1
        shape = np.diag([12.0 + k, 12.0 + k, 4.0, 1.0])
        for name, data in (("image", volume + 6 * mask), ("mask", mask)):
            nib.save(nib.Nifti1Image(data.astype(np.float32), shape), place / f"PET_{name}.nii.gz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("patients")
    write_patients(path)
    return path


def test_the_tumour_lies_where_the_image_is_hot_and_its_bias_is_told(folder):
    truth = patient_slices(folder)[0]
    inside, image = truth.tumour, image_of(truth.expected, truth)
    assert 0.005 < float(inside.float().mean()) < 0.2
    assert float(image[inside].mean()) > 0.7 * float(image.max())
    assert float(image[~inside].mean()) < 0.3 * float(image.max())
    assert not bool(patient_slices(folder, offset=3)[0].tumour.any())
    exact, more = patients.judged(truth.expected, truth), patients.judged(0.9 * truth.expected, truth)
    assert exact["bias"] == pytest.approx(0, abs=1e-4) and exact["ssim_image"] == pytest.approx(1)
    assert more["bias"] == pytest.approx(-10, abs=0.1) and more["error"] == -more["bias"]


@pytest.fixture(scope="module")
def judged(folder, tmp_path_factory):
    """Rows, and the patients that each fold's model learned from."""
    place = tmp_path_factory.mktemp("judged")
    tiny().save_pretrained(place / "base")
    learned: list[list[str]] = []
    stacked, adapt, train = patients.stacked, patients.adapt, patients.train

    def noted(slices, seed):
        assert len(slices) == 2 and len({truth.subject for truth in slices}) == 1
        seen.append(slices[0].subject)
        return stacked(slices, seed)

    def quick(task, pairs, out, minutes, **options):
        learned.append(seen.copy())
        seen.clear()
        assert len(pairs) == 2 * len(learned[-1]) and len(pairs.subject.unique()) == len(learned[-1])
        assert len(pairs.question.told[:, 2].unique()) == len(learned[-1])  # each scan on its own grid
        return adapt(task, pairs, out, None, 2, **options)

    def trained(pairs, out, recipe, minutes, **options):
        assert len(pairs) == 2 * len(learned[-1])  # the same pairs
        return train(pairs, out, recipe, None, 1, **options)

    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patients, "FOLDS", FOLDS)
        patch.setattr(low_dose_table, "WIDTHS", (1.0, 2.0))
        patch.setattr(patients, "stacked", noted)
        patch.setattr(patients, "adapt", quick)
        patch.setattr(patients, "train", trained)
        model = AllPET.from_pretrained(place / "base")
        rows = patients.judge(model, folder, 1.0, place, offsets=(0, 1), fractions=(0.05,), said=lambda _: None)
    return rows, learned


def test_every_patient_is_tested_once_by_a_model_that_never_saw_them(folder, judged):
    rows, learned = judged
    names = sorted(path.name for path in folder.iterdir())
    methods = ("input", "Gaussian", patients.PLAIN, patients.SHIPPED, patients.ADAPTED)
    assert len(learned) == FOLDS and {row["method"] for row in rows} == set(methods)
    for name in methods:
        assert sorted(row["subject"] for row in rows if row["method"] == name) == names
    for row in rows:
        assert row["subject"] not in learned[row["fold"]] and len(learned[row["fold"]]) == PEOPLE // FOLDS


def test_the_adapted_model_is_used_and_the_table_says_what_it_gained(judged, folder, tmp_path, monkeypatch, capsys):
    rows, _ = judged
    shipped, own = (
        np.array([row["psnr_sinogram"] for row in rows if row["method"] == name])
        for name in (patients.SHIPPED, patients.ADAPTED)
    )
    assert (shipped != own).all()  # no plane is left to the restorer for want of a tracer
    monkeypatch.setattr(patients, "judge", lambda *_: rows)
    words = ["study", "patients", "--patients", str(folder), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    assert study.main() == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "out" / "patients.md").read_text() and text.count("| 1/20 |") == 5
    error = own.std(ddof=1) / len(own) ** 0.5
    assert f"| {patients.ADAPTED} | {own.mean():.2f} ± {error:.2f} |" in text and f" | {PEOPLE} |\n" in text
    assert f"1/20: {(own - shipped).mean():+.2f} ±" in text
    assert json.loads((tmp_path / "out" / "patients.json").read_text())["rows"] == rows


def test_too_few_patients_and_unmarked_tumours_are_one_clear_line(folder, tmp_path):
    with pytest.raises(AllpetError, match="holds 4 patients; at least 5"):
        patients.judge(tiny(), folder, 1.0, tmp_path)
    bare = 2 * patient_slices(folder, offset=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patients, "patient_slices", lambda *_: bare)
        with pytest.raises(AllpetError, match="STS_001: no tumour is marked"):
            patients.judge(tiny(), folder, 1.0, tmp_path)
    assert torch.isfinite(bare[0].expected).all()
