"""The command ``reproduce``: every row of the paper's tables runs, with its own architecture, on miniature trees."""

import gc
import json
import shutil

import numpy as np
import pandas
import pytest
import torch
import yaml

import rankseg_rma
from conftest import run, tiny_network
from rankseg_rma import networks
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import load_card
from rankseg_rma.files.resources import resource_dir
from rankseg_rma.networks import network_config
from rankseg_rma.paper import reproduce
from rankseg_rma.paper.rows import list_rows
from rankseg_rma.tables.dictionary import COLUMNS
from rankseg_rma.tables.store import read_rows
from rankseg_rma.training import settings
from rankseg_rma.training.recipes import load_recipe
from rankseg_rma.training.train import train_network
from trees import make_ade20k, make_cityscapes, make_kits, make_lits, make_sbd, make_voc

# As the paper's README has them: argmax and RMA.
PUBLISHED = {
    "ade20k_segformer": (54.09, 54.72), "cityscapes_segformer": (73.32, 74.10), "pascal_voc_segformer": (86.86, 87.28),
    "ade20k_upernet": (56.94, 57.67), "cityscapes_upernet": (75.66, 76.17), "pascal_voc_upernet": (87.82, 88.25),
    "lits_deeplabv3plus": (38.45, 40.09), "lits_unet": (38.45, 40.70),
    "kits19_deeplabv3plus": (61.16, 63.56), "kits19_unet": (47.58, 50.07),
}  # fmt: skip
NETWORKS = {
    "segformer": "segformer_mit_b4", "upernet": "upernet_convnext_base", "deeplabv3plus": "deeplabv3plus_resnet50d",
    "unet": "unet_resnet50d",
}  # fmt: skip
SMALL = ("--iterations", 1, "--batch-size", 2, "--crop-size", 64, "--encoder-weights", "none", "--num-workers", 0)


def prepare_store(name, source, out, num_slices):
    """A slice store that keeps the first slices of each case only, so many as a function of its place says."""
    run("data", "prepare", name, "--root", source, "--out", out)
    content, kept = json.loads((out / "store.json").read_text()), []
    for place, case_id in enumerate(content["case_ids"]):
        kept += [entry for entry in content["slices"] if entry["case_id"] == case_id][: num_slices(place)]
    (out / "store.json").write_text(json.dumps({**content, "slices": kept}))
    return out


@pytest.fixture
def _free_memory():
    """A large network hangs in cycles of its trainer until they are collected."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    voc = make_voc(folder / "voc")
    run("data", "prepare", "pascal_voc", "--root", voc, "--sbd", make_sbd(folder / "sbd"), "--out", folder / "voc_aug")
    make_kits(folder / "kits")
    return {
        "ade20k": make_ade20k(folder / "ade"), "cityscapes": make_cityscapes(folder / "city"),
        "pascal_voc": folder / "voc_aug", "voc_download": voc, "kits_download": folder / "kits",
        "lits": prepare_store("lits", make_lits(folder / "lits"), folder / "lits_store", lambda place: 1),
        "kits19": prepare_store("kits19", folder / "kits", folder / "kits_store", lambda place: 1),
        "kits_slices": prepare_store("kits19", folder / "kits", folder / "kits_slices", lambda place: 1 + place % 3),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side: threads of small layers would wait for each other longer than they compute."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(number)


@pytest.fixture
def out(tmp_path):
    yield tmp_path / "out"
    # A checkpoint of the largest network is 1.4 GB.
    shutil.rmtree(tmp_path)


def test_rows_are_the_published_ones():
    rows = list_rows()
    assert {name: (row.published["argmax"], row.published["rma"]) for name, row in rows.items()} == PUBLISHED
    for name, row in rows.items():
        recipe = load_recipe(row.recipe)
        dataset, network = name.rsplit("_", 1)
        assert (recipe.dataset, recipe.network, recipe.loss) == (dataset, NETWORKS[network], "ce")
        is_image = load_card(dataset).kind == "image"
        assert (row.unit, row.folds) == (("image", None) if is_image else ("slice", (0, 1, 2, 3, 4)))
        assert (row.metric, row.score, row.part) == ("iou", "miou_i", "validation")


# One of photographs and one of slices; the other networks take ten seconds each, and `test_networks` trains them all.
SHORT = ("ade20k_segformer", "kits19_unet")


@pytest.mark.usefixtures("_free_memory")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHORT else pytest.mark.long) for name in PUBLISHED]
)
def test_every_row_runs(name, roots, out, monkeypatch):
    row = list_rows()[name]
    if row.unit == "image":
        # What a killed run would need of the large networks is up to 1.4 GB; here none is killed. The root keeps what
        # configs once asked of it, so it is replaced there.
        monkeypatch.setattr(rankseg_rma, "checkpoint_parts", lambda *parts: {"trainer": parts[3]})
    recipe = load_recipe(row.recipe)
    fold = () if row.folds is None else ("--fold", 1)
    said = run("reproduce", name, "--root", roots[recipe.dataset], "--out", out, *SMALL, *fold)
    trained, tested = (out / "fold_1", out / "test" / "fold_1") if fold else (out / "run", out / "test")
    config = yaml.safe_load((trained / "configs" / "train.yaml").read_text())
    assert config["network_def"] == network_config(NETWORKS[name.rsplit("_", 1)[1]])
    assert config["learning_rate"] == recipe.learning_rate and config["batch_size"] == 2

    summary = read_rows(tested / "test_summary.csv").set_index(["score_over", "decoder", "score"])
    argmax, rma = (summary.loc[(row.unit, decoder, "miou_i")] for decoder in row.decoders.values())
    table = read_rows(out / "reproduce.csv").set_index("quantity")
    published = [points / 100 for points in PUBLISHED[name]]
    expected = [argmax["value"], rma["value"], rma["value"] - argmax["value"]]
    assert table["value"].tolist() == pytest.approx(expected, abs=1e-12)
    assert table["published"].tolist() == pytest.approx([*published, published[1] - published[0]])
    assert table["from_published"].tolist() == pytest.approx((table["value"] - table["published"]).tolist())
    shown = [line.split() for line in said.splitlines()]
    ours, paper = (next(line for line in shown if line[:1] == [head]) for head in ("ours", "paper"))
    assert ours[1] == f"{100 * expected[0]:.2f}" and f"{100 * expected[1]:.2f}" in ours
    assert paper[1:3] == [f"{points:.2f}" for points in PUBLISHED[name]]

    record = json.loads((out / "reproduce.json").read_text())
    numbers = {"ade20k": 2000, "cityscapes": 500, "pascal_voc": 1449, "lits": 889, "kits19": None}
    assert record["results"][0]["num_images_expected"] == numbers[recipe.dataset]
    assert record["results"][0]["num_images"] == (1 if fold else 3)
    wanted = {"encoder weights: random, not imagenet", "crop size: [64, 64], not " + str([*recipe.crop_size]),
              "batch size: 2, not 8"}  # fmt: skip
    assert wanted < set(record["deviations"]) and not record["settings_and_data_of_the_paper"]
    assert any(text.startswith("length: 1 iterations, not ") for text in record["deviations"])
    assert all(f"- {text}" in said for text in record["deviations"]) and recipe.note.strip() in said
    options = json.loads((tested / "test.json").read_text())
    assert (options["metric"], options["temperature"], options["part"]) == ("iou", None, "validation")


def test_encoders_start_from_the_weights_of_the_recipe(roots, out, monkeypatch):
    def refuse(encoder, library):
        raise FileNotFoundError(f"no weights of {encoder}")

    monkeypatch.setattr(networks, "_hub_file", refuse)
    said = run("reproduce", "lits_unet", "--root", roots["lits"], "--out", out, "--fold", 0, "--iterations", 1, code=2)
    assert "no weights of tu-resnet50d" in said


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The recipes with another network; gives the calls of the training."""
    definition, calls = tmp_path / "tiny.yaml", []
    definition.write_text(yaml.safe_dump(tiny_network(2)))

    def train(root, run, **more):
        calls.append((run, more["fold"]))
        return train_network(root, run, **{**more, "network": str(definition)})

    monkeypatch.setattr(reproduce, "train_network", train)
    monkeypatch.setattr(settings, "network_config", lambda name: tiny_network(2)["network_def"])
    return calls


def test_folds_are_one_data_set(roots, out, tiny, monkeypatch):
    root = roots["kits_slices"]
    more = ("--iterations", 3, "--encoder-weights", "none", "--num-workers", 0)
    said = run("reproduce", "kits19_unet", "--root", root, "--out", out, *more)
    assert tiny == [(out / f"fold_{fold}", fold) for fold in range(5)]
    values, pooled = [], {decoder: np.zeros(3) for decoder in ("argmax", "rma_slice")}
    for fold in range(5):
        folder = out / "test" / f"fold_{fold}"
        items = read_rows(folder / "items.csv").query("score_over == 'slice'")
        values.append(items.groupby(["decoder", "case_id"])["miou"].mean().unstack("decoder"))
        classes = read_rows(folder / "classes.csv").query("score_over == 'slice' and label == '1'")
        for decoder, part in classes.groupby("decoder"):
            pooled[decoder] += part[["tp", "fp", "fn"]].sum().to_numpy()
    cases = pandas.concat(values)
    assert len(cases) == 6 and cases.index.is_unique
    table = read_rows(out / "reproduce.csv")
    whole, single = table[table["published"].notna()], table[table["published"].isna()]
    assert whole["folds"].unique().tolist() == ["0 1 2 3 4"] and len(single) == 15
    means = cases[["argmax", "rma_slice"]].mean().tolist()
    assert whole["value"].tolist() == pytest.approx([*means, means[1] - means[0]])
    assert whole[["low", "high"]].notna().all(axis=None), "six cases are enough for an interval"
    assert (whole["low"] <= whole["value"]).all() and (whole["value"] <= whole["high"]).all()
    assert whole["num_images"].tolist() == [12] * 3 and whole["num_cases"].tolist() == [6] * 3
    assert single["folds"].astype(str).tolist() == [str(fold) for fold in range(5) for _ in range(3)]
    assert single["value"].tolist()[0::3] == pytest.approx([part["argmax"].mean() for part in values])
    summary = read_rows(out / "test_summary.csv").set_index(["decoder", "score"])
    assert list(read_rows(out / "test_summary.csv").columns) == list(COLUMNS["test_summary.csv"])
    for decoder, counts in pooled.items():
        assert summary.loc[(decoder, "miou_d"), "value"] == pytest.approx(counts[0] / counts.sum())
    assert "tested: 12 slices, 6 cases" in said and "fold 4" in said
    assert "cases: 6 of 210" in said and "missing" not in said

    # As if the data were complete and the settings the recipe's: then nothing is listed.
    monkeypatch.setattr(reproduce, "check_root", lambda row, root: [])
    monkeypatch.setattr(reproduce, "changed_settings", lambda run, recipe: {})
    said = run("reproduce", "kits19_unet", "--root", root, "--out", out / "again", "--bundle", out)
    record = json.loads((out / "again" / "reproduce.json").read_text())
    assert record["settings_and_data_of_the_paper"] and record["deviations"] == []
    assert "are the paper's, as far as they are known" in said and "NOT THE PAPER" not in said
    assert read_rows(out / "again" / "reproduce.csv").equals(table) and len(tiny) == 5


def test_a_run_goes_on_or_is_left_alone(roots, out, tiny):
    command = ["reproduce", "kits19_unet", "--root", roots["kits19"], "--out", out, "--fold", 2, "--num-workers", 0,
               "--encoder-weights", "none", "--iterations"]  # fmt: skip
    run(*command, 2)
    weights = (out / "fold_2" / "models" / "model.pt").stat().st_mtime_ns
    said = run(*command, 2)
    assert len(tiny) == 1 and (out / "fold_2" / "models" / "model.pt").stat().st_mtime_ns == weights
    assert "fold 0 of 5 is missing" in said and "fold 2 of 5" not in said
    said = run(*command, 3, code=2)
    assert "a finished run that differs in max_iterations" in said and "Choose another --out" in said
    assert "differs in length" in run(*command[:-1], code=2), "the recipe's own length is asked for"
    assert len(tiny) == 1
    (out / "fold_2" / "models" / "temperature.json").unlink()
    run(*command, 2)
    assert len(tiny) == 2


@pytest.fixture(scope="module")
def trained(roots, tmp_path_factory):
    """Finished runs of folds 0 and 3, for reading only."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(2)))
    for fold in (0, 3):
        train_network(roots["kits19"], folder / "runs" / f"fold_{fold}", dataset=None, recipe="kits19_unet",
                      network=str(folder / "tiny.yaml"), loss=None, fold=fold,
                      entries={"max_iterations": 1, "encoder_weights": "none", "ema_decay": 0.5})  # fmt: skip
    return folder / "runs"


@pytest.fixture
def bundles(trained, tmp_path, tiny):
    return shutil.copytree(trained, tmp_path / "runs")


def test_given_runs(roots, bundles, out, monkeypatch):
    common = ("reproduce", "kits19_unet", "--root", roots["kits19"], "--out", out)
    said = run(*common, "--bundle", bundles / "fold_3", "--bundle", bundles / "fold_0")
    record = json.loads((out / "reproduce.json").read_text())
    assert list(record["runs"]) == ["3", "0"] or list(record["runs"]) == ["0", "3"]
    assert record["runs"]["3"] == str(bundles / "fold_3")
    missing = [f"fold {fold} of 5 is missing" for fold in (1, 2, 4)]
    assert [text for text in record["deviations"] if "missing" in text] == missing
    assert "ema decay: 0.5, not None" in record["deviations"]
    assert not (out / "fold_0").exists() and "tested: 2 slices, 2 cases" in said
    said = run(*common, "--bundle", bundles, "--fold", 3)
    assert json.loads((out / "reproduce.json").read_text())["runs"] == {"3": str(bundles / "fold_3")}
    assert "tested: 1 slices, 1 cases (fold 3)" in said
    assert "a run of fold 1; got of 0, 3" in run(*common, "--bundle", bundles, "--fold", 1, code=2)
    twice = ("--bundle", bundles / "fold_0", "--bundle", bundles)
    assert "each fold once; got a second run of fold 0" in run(*common, *twice, code=2)
    monkeypatch.setattr(settings, "network_config", lambda name: {"_target_": name})
    run(*common, "--bundle", bundles, "--limit", 1)
    deviations = json.loads((out / "reproduce.json").read_text())["deviations"]
    assert "network def: another, not unet_resnet50d" in deviations and any("first 1 images" in x for x in deviations)


def test_runs_that_do_not_fit(roots, bundles, out):
    common = ("reproduce", "kits19_unet", "--root", roots["kits19"], "--out", out)
    path = bundles / "fold_0" / "configs" / "datalist.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "validation": content["training"]}))
    assert "those of a fold" in run(*common, "--bundle", bundles / "fold_0", code=2)
    (bundles / "fold_3" / "models" / "model.pt").unlink()
    assert "a run with models/model.pt" in run(*common, "--bundle", bundles / "fold_3", code=2)
    said = run("reproduce", "ade20k_upernet", "--root", roots["ade20k"], "--out", out, "--bundle", bundles / "fold_0",
               "--bundle", bundles / "fold_0", code=2)  # fmt: skip
    assert "one run: ade20k_upernet has no folds; got 2" in said
    assert not out.exists()


def test_a_damaged_case_is_said(roots, bundles, out, tmp_path):
    root = shutil.copytree(roots["kits19"], tmp_path / "store")
    path = min((root / "slices" / "case_00000").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    common = ("reproduce", "kits19_unet", "--root", root, "--out", out)
    said = run(*common, "--bundle", bundles, code=1)
    assert "- 1 images or cases could not be tested" in said and "case_00000: " in said
    assert json.loads((out / "reproduce.json").read_text())["tests"].keys() == {"3"}
    said = run(*common, "--bundle", bundles / "fold_0", code=1)
    assert "paper" not in said


def test_the_data_is_checked_first(roots, out):
    said = run("reproduce", "kits19_unet", "--root", roots["kits_download"], "--out", out, code=2)
    assert "a slice store of kits19" in said and f"data prepare kits19 --root {roots['kits_download']} --out" in said
    said = run("reproduce", "lits_unet", "--root", roots["kits19"], "--out", out, code=2)
    assert "made of lits; got a slice store of kits19" in said
    assert not out.exists()
    row = list_rows()["pascal_voc_upernet"]
    faults = reproduce.check_root(row, roots["voc_download"])
    assert faults[:2] == ["training images: 6 of 10582", "validation images: 3 of 1449"]
    assert (
        "the 1464 images of the data set's own list, the paper's on 10582: run `rankseg-rma data prepare" in faults[2]
    )
    assert reproduce.check_root(row, roots["pascal_voc"]) == ["training images: 10 of 10582", faults[1]]
    assert reproduce.check_root(list_rows()["lits_unet"], roots["lits"]) == ["cases: 6 of 131", "slices: 5 of 7190"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lits_unt",), "got 'lits_unt'. Did you mean 'lits_unet'?"),
        (("zzz",), "`rankseg-rma reproduce --list` shows them"),
        (("lits_unet",), "Give --root."),
        (("lits_unet", "--root", "."), "Give --out."),
        (("ade20k_upernet", "--fold", "0"), "left out: ade20k_upernet has no folds"),
        (("kits19_unet", "--fold", "5"), "fold must be one of 0, 1, 2, 3, 4; got 5"),
        (("lits_unet", "--crop-size", "4x4"), "height,width in pixels, or one number"),
        (("lits_unet", "--bundle", "a", "--epochs", "1"), "given without settings of a training"),
    ],
)
def test_wrong_use(arguments, message, roots, out):
    name = arguments[0]
    root = roots.get(name.rsplit("_", 1)[0])
    if root is not None and "Give" not in message:
        arguments = (*arguments, "--root", root, "--out", out)
    assert message in run("reproduce", *arguments, code=2)
    assert not out.exists()


def test_rows_are_listed():
    for arguments in (("--list",), ()):
        said = run("reproduce", *arguments)
        for name, points in PUBLISHED.items():
            line = next(line for line in said.splitlines() if line.split()[:1] == [name])
            assert line.split()[-3:-1] == [f"{number:.2f}" for number in points]


def test_a_wrong_file_of_rows_is_named(tmp_path, monkeypatch):
    content = yaml.safe_load((resource_dir("configs") / "reproduce.yaml").read_text())
    monkeypatch.setattr("rankseg_rma.paper.rows.resource_dir", lambda kind: tmp_path)
    for change in ({"folds": None}, {"unit": "image"}, {"extra": 1}):
        (tmp_path / "reproduce.yaml").write_text(yaml.safe_dump({"x": {**content["lits_unet"], **change}}))
        with pytest.raises(DatasetError, match="row x must be a mapping of folds, metric"):
            list_rows()
