"""Which case a file is of: suffixes, spelling, and the numbers that nnU-Net gives to channels."""

import unicodedata
from pathlib import Path

import pytest

from rankseg_rma.files.names import case_id_of, group_channels, match_cases, name_cases
from rankseg_rma.files.volumes import list_volumes

DECOMPOSED = unicodedata.normalize("NFD", "Müller")


def files(*names):
    return {name: Path(f"{name}.nii.gz") for name in names}


@pytest.mark.parametrize(
    ("name", "case_id"),
    [
        ("case1.seg.nrrd", "case1"), ("Case1.SEG.NRRD", "Case1"), ("case1.nrrd", "case1"), ("a.seg.nii.gz", "a.seg"),
        (f"{DECOMPOSED}.nii", "Müller"), ("x_0000.nii.gz", "x_0000"),
    ],
)  # fmt: skip
def test_suffixes_and_spelling(name, case_id):
    assert case_id_of(f"folder/{name}") == case_id


@pytest.mark.parametrize(
    ("names", "cases"),
    [
        (["x_0000", "y_0000"], {"x": ["x_0000"], "y": ["y_0000"]}),
        (["x_0001", "x_0000", "y"], {"x": ["x_0000", "x_0001"], "y": ["y"]}),
        # Of one case or three: it takes the network's channels to tell.
        (["case_0002", "case_0000", "case_0001"], {"case": ["case_0000", "case_0001", "case_0002"]}),
        # No channel 0, or a gap: numbers of cases.
        (["case_0007"], {"case_0007": ["case_0007"]}),
        (["case_0000", "case_0002"], {"case_0000": ["case_0000"], "case_0002": ["case_0002"]}),
        # Of two numbers the last is the channel's; five or three digits are no channel's.
        (["amos_0007_0000"], {"amos_0007": ["amos_0007_0000"]}),
        (["case_00000", "phantom_000"], {"case_00000": ["case_00000"], "phantom_000": ["phantom_000"]}),
    ],
)  # fmt: skip
def test_channels_of_a_case(names, cases):
    assert group_channels(files(*names)) == {
        case_id: tuple(files(*mine).values()) for case_id, mine in cases.items()
    }  # fmt: skip


def test_probabilities_are_cases_of_their_own():
    assert list(name_cases(files("x_0000", "y"))) == ["x", "y"]
    assert list(name_cases(files("x_0000", "x_0001"))) == ["x_0000", "x_0001"]


def test_known_cases_keep_their_ids():
    known = ["case_0000", "case_0001", "x", "y"]
    found = match_cases(files("case_0000", "case_0001", "x_0000", "z_0000"), known)
    assert list(found) == ["case_0000", "case_0001", "x", "z_0000"]
    # A mask that lost a number that was its own.
    assert list(match_cases(files("case"), known)) == ["case_0000"]


@pytest.mark.parametrize("join", [group_channels, name_cases, lambda found: match_cases(found, ["x"])])
def test_two_files_of_a_case_are_named(join):
    for order in (("x", "x_0000"), ("x_0000", "x")):
        with pytest.raises(ValueError, match=r"one a case; got x.*\.nii\.gz and x.*\.nii\.gz \(case x\)"):
            join(files(*order))


@pytest.mark.parametrize("twins", [("Müller.nii.gz", f"{DECOMPOSED}.nii.gz"), ("a.nrrd", "a.seg.nrrd")])
def test_two_spellings_in_one_folder_are_named(tmp_path, twins):
    for name in twins:
        (tmp_path / name).write_bytes(b"")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("the file system keeps one spelling only")
    with pytest.raises(ValueError, match="unique") as caught:
        list_volumes(tmp_path)
    assert all(name in str(caught.value) for name in twins)
