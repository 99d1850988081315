"""Which folders are decoders, and which plans of an evaluation are made or refused."""

import pytest
from made_scores import plan_of

from rankseg_rma.evaluation.inputs import RESERVED, find_arms


@pytest.mark.parametrize("name", [*(word for word in RESERVED if word), "Mean", "EXPECTED", "x.csv", "x.json", "x.html",
                                  "../x", "/abs", "a/b", "a/"])  # fmt: skip
def test_names_that_decoders_cannot_have(tmp_path, name):
    with pytest.raises(ValueError, match="named by a plain word"):
        find_arms([f"{name}={tmp_path}"])


@pytest.mark.parametrize("word", ["reference", "expected", "mean", "Masks"])
def test_folders_of_reserved_names_need_another(tmp_path, word):
    (tmp_path / word).mkdir()
    with pytest.raises(ValueError, match="named by a plain word"):
        find_arms([str(tmp_path / word)])
    assert find_arms([f"mine={tmp_path / word}"]) == {"mine": tmp_path / word}


@pytest.mark.parametrize("relative", [True, False])
def test_folders_with_an_equals_sign(tmp_path, monkeypatch, relative):
    for name in ("a=b", "c=d/e=f"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    base = "" if relative else f"{tmp_path}/"
    found = find_arms([f"{base}a=b", f"named={base}c=d/e=f", f"{base}c=d/e=f"])
    assert {name: path.resolve() for name, path in found.items()} == {
        "a=b": tmp_path / "a=b", "named": tmp_path / "c=d/e=f", "e=f": tmp_path / "c=d/e=f",
    }  # fmt: skip


def test_decoders_of_one_folder_and_of_one_name(tmp_path):
    for name in ("run/argmax", "run/rma", "other/rma"):
        (tmp_path / name).mkdir(parents=True)
    run, other = tmp_path / "run", tmp_path / "other"
    assert find_arms([str(run), f"old={other}"]) == {"argmax": run / "argmax", "rma": run / "rma", "old": other / "rma"}
    for entries in ([str(run), str(other)], [f"x={run / 'rma'}", f"x={other}"], [str(run / "rma")] * 2):
        with pytest.raises(ValueError, match="of different names"):
            find_arms(entries)
    with pytest.raises(ValueError, match="one folder of masks to name"):
        find_arms([f"x={run}"])
    with pytest.raises(FileNotFoundError, match="an existing folder"):
        find_arms([f"x={tmp_path / 'none'}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"protocol": protocol, **given}, f"those of the protocol; got {name}")
          for protocol in ("kits23", "lits")
          for name, given in (("label_names", {"label_names": {1: "liver"}}), ("lesions", {"lesions": ["2"]}),
                              ("regions", {"regions": {"x": (1, 2)}}), ("organ", {"organ": (1,)}))),
        ({"label_names": {1: "liver", 2: "tumour"}, "regions": {"liver": (1, 2)}}, "each named once"),
        ({"regions": {"x": (1, 2), "y": (1, 2)}}, "each named once"),
        ({"label_names": {1: "liver", 2: "liver"}}, "each named once"),
        ({"metric": "rvd"}, "a better direction"),
        ({"metric": "slice_dice"}, "slice_dice"),
        ({"connectivity": 18}, "6 or 26"),
        ({"protocol": "brats"}, "brats"),
        ({"empty_policy": "zero"}, "zero"),
        ({"label_names": {1: "liver"}, "lesions": ["tumour"]}, "tumour"),
    ],
)  # fmt: skip
def test_plans_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan_of(**options)


def test_plans_that_are_made():
    plan = plan_of(label_names={1: "liver", 2: "Tumour"}, regions={"both": (1, 2)})
    assert [one.key for one in plan.structures] == ["1", "2", "1+2"]
    assert [one.is_lesion for one in plan.structures] == [False, True, False]
    assert plan.organ == (1,) and plan.empty_policy == "kits" and plan.connectivity == 26
    assert plan_of(protocol="nnunet").empty_policy == "nnunet" and plan_of().structures is None
    assert plan_of(protocol="nnunet", empty_policy="monai").empty_policy == "monai"
