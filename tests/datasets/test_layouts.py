"""Every layout on its miniature tree and on real files: cases, parts, splits, and damage that `data check` names."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import conftest
import trees
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import check as data
from rankseg_rma.datasets import list_cases, load_card, part_cases, slices, split_cases
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.files.images import VOID, read_classes, read_image
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.grid import find_slice_axis, voxel_volume_ml

MAKERS = {
    "lits": trees.make_lits, "kits19": trees.make_kits, "kits23": lambda root: trees.make_kits(root, year=23),
    "msd_hippocampus": trees.make_msd, "pascal_voc": trees.make_voc, "cityscapes": trees.make_cityscapes,
    "ade20k": trees.make_ade20k, "camvid": trees.make_camvid,
}  # fmt: skip


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """The root of each data set's tree, for reading only."""
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


@pytest.fixture
def copied(grown, tmp_path):
    """A tree to damage."""

    def copy(name):
        return shutil.copytree(grown[name], tmp_path / name)

    return copy


def problems(result):
    return {fault["case_id"]: (fault["file"], fault["problem"]) for fault in result.faults}


@pytest.mark.parametrize("name", MAKERS)
def test_trees_are_clean(grown, name):
    result = check_dataset(name, grown[name])
    assert result.faults == []
    assert result.num_cases == len(list_cases(load_card(name), grown[name])[1])
    assert result.notes


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_tree_grows_again(grown, name, tmp_path):
    """Pictures and volumes of a second tree are the same."""
    _, cases = list_cases(load_card(name), MAKERS[name](tmp_path))
    _, first = list_cases(load_card(name), grown[name])
    assert [case.id for case in cases] == [case.id for case in first]
    read = read_volume if load_card(name).kind == "volume" else read_image
    one, other = (read(found[1].image) for found in (cases, first))
    np.testing.assert_array_equal(getattr(one, "array", one), getattr(other, "array", other))


def test_lits_is_found_in_both_batches(grown):
    card, cases = list_cases(load_card("lits"), grown["lits"])
    assert [case.case_id for case in cases] == [f"volume-{number}" for number in range(6)]
    assert {case.image.parent.name for case in cases} == {"Training Batch 1", "Training Batch 2"}
    assert [case.label.name for case in cases] == [f"segmentation-{number}.nii" for number in range(6)]
    assert all(case.part is None for case in cases)
    assert (card.labels, card.intensity.low, card.intensity.high) == ({1: "liver", 2: "tumour"}, -60, 140)
    assert card.foreground_crop


def test_lits_labels_may_lie_elsewhere_and_packed(copied):
    root = copied("lits")
    elsewhere = root / "labels"
    for path in [*root.rglob("segmentation-*.nii")]:
        label = read_volume(path)
        write_volume(elsewhere / f"{path.name}.gz", label.array, label.affine)
        path.unlink()
    wrapped = root / "volume-0.nii"
    shutil.move(root / "Training Batch 1" / "volume-0.nii", root / "moved")
    wrapped.mkdir()
    shutil.move(root / "moved", wrapped / "volume-0.nii")
    (root / "._volume-7.nii").write_bytes(b"of a Mac")
    (root / "test-volume-0.nii").write_bytes(b"of the test")
    result = check_dataset("lits", root)
    assert (result.num_cases, result.faults) == (6, [])
    shutil.copy(wrapped / "volume-0.nii", root / "Training Batch 2" / "volume-0.nii")
    with pytest.raises(DatasetError, match="volume files must be one of each number; got .*volume-0.nii and"):
        list_cases(load_card("lits"), root)


def test_kits_is_found_from_the_repository_and_from_its_folder(grown):
    for name, folder in (("kits19", "data"), ("kits23", "dataset")):
        _, cases = list_cases(load_card(name), grown[name])
        assert list_cases(load_card(name), grown[name] / folder)[1] == cases
        assert cases[0].case_id == "case_00000"
        assert (cases[0].image.name, cases[0].label.name) == ("imaging.nii.gz", "segmentation.nii.gz")
        assert len({read_volume(case.label).array.shape[1:] for case in cases}) == 2
        affine = read_volume(cases[0].label).affine
        assert find_slice_axis(affine, "axial") == 0
    # The unlabelled test case of KiTS19 is no case; KiTS23's numbers have a gap.
    assert (grown["kits19"] / "data" / "case_00210").is_dir()
    assert [case.case_id for case in cases][-1] == "case_00400"
    assert "case_00210" not in [case.case_id for case in list_cases(load_card("kits19"), grown["kits19"])[1]]


def test_a_cyst_is_no_tumour_on_the_card():
    card = load_card("kits23")
    assert card.slices.labels == {1: (2,)} and card.slices.names == ("tumour",)
    assert card.regions == {"kidney_and_mass": (1, 2, 3), "mass": (2, 3), "tumor": (2,)}


PARTS = {
    "pascal_voc": (6, 3, 0, "2007_000032"), "cityscapes": (6, 3, 1, "aachen_000000_000019"),
    "ade20k": (6, 3, 0, "ADE_train_00000001"), "camvid": (6, 3, 3, "0001TP_006690"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_images_have_their_official_parts(grown, name):
    card, cases = list_cases(load_card(name), grown[name])
    parts = part_cases(card, cases, 0)
    assert tuple(map(len, parts.values())) == PARTS[name][:3]
    assert parts["training"][0].case_id == PARTS[name][3]
    assert all(case.label is None for case in parts["test"]) == (name != "camvid")
    with pytest.raises(ValueError, match="fold must be 0: the parts of"):
        part_cases(card, cases, 1)
    for case in parts["training"] + parts["validation"]:
        image, classes = read_image(case.image), read_classes(case.label, card)
        assert image.shape[1:] == classes.shape
        present = set(np.unique(classes)) - {VOID}
        assert present and max(present) < card.num_classes
        # What a network can learn: within a class the colour is the same, JPEG and noise aside.
        for value in present:
            pixels = image[:, classes == value].astype(float)
            assert np.abs(pixels - np.median(pixels, axis=1)[:, None]).mean() < 12


def test_every_tree_has_void_and_the_roots_may_be_above(grown):
    for name, above in (("pascal_voc", 2), ("ade20k", 1)):
        card, cases = list_cases(load_card(name), grown[name])
        assert list_cases(load_card(name), grown[name].parents[above - 1])[1] == cases
    for name in PARTS:
        card, cases = list_cases(load_card(name), grown[name])
        assert any((read_classes(case.label, card) == VOID).any() for case in cases if case.label)


def test_prepared_voc_trains_on_trainaug(grown, tmp_path):
    source = grown["pascal_voc"]
    names = [*trees.VOC_TRAIN, *trees.VOC_EXTRA]
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "SegmentationClassAug").mkdir()
    for name in names:
        shape = read_image(source / "JPEGImages" / f"{name}.jpg").shape[1:]
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "SegmentationClassAug" / f"{name}.png")
    prepared = {"dataset": "pascal_voc", "source": str(source), "counts": {}}
    (tmp_path / "prepared.json").write_text(json.dumps(prepared))
    card, cases = list_cases(load_card("pascal_voc"), tmp_path)
    parts = part_cases(card, cases, 0)
    assert (len(parts["training"]), len(parts["validation"])) == (10, 3)
    assert card.parts["training"] == 10582
    result = check_dataset("pascal_voc", tmp_path)
    assert result.faults == []
    assert "training images: 10 of 10582" in result.notes
    (tmp_path / "prepared.json").write_text(json.dumps({**prepared, "source": str(tmp_path / "gone")}))
    with pytest.raises(DatasetError, match="Was it moved"):
        list_cases(load_card("pascal_voc"), tmp_path)
    (tmp_path / "prepared.json").write_text("[]")
    with pytest.raises(DatasetError, match="JSON with a source"):
        list_cases(load_card("pascal_voc"), tmp_path)


def test_own_images_need_no_lists(copied, tmp_path):
    root = copied("camvid")
    for part in ("train", "val", "test"):
        (root / f"{part}.txt").unlink()
    card, cases = list_cases(load_card("camvid"), root)
    assert tuple(map(len, part_cases(card, cases, 0).values())) == (6, 3, 3)
    shutil.rmtree(root / "testannot")
    result = check_dataset("camvid", root)
    assert (result.num_cases, result.faults) == (12, [])
    shutil.copy(root / "train" / "0001TP_006690.png", root / "train" / "0001TP_006690.bmp")
    with pytest.raises(DatasetError, match="file names must be unique"):
        list_cases(card, root)
    (root / "train.txt").write_text("one two three\n")
    with pytest.raises(DatasetError, match="an image and a label; got one two three"):
        list_cases(card, root)
    (root / "train.txt").write_text("../../x.png ../y.png\n")
    with pytest.raises(DatasetError, match="paths inside its folder"):
        list_cases(card, root)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "msd_hippocampus"])
def test_a_wrong_folder_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"root must be a folder with .*{tmp_path.name}"):
        list_cases(load_card(name), tmp_path)


def test_folders_of_links_are_read(copied, tmp_path):
    root = copied("pascal_voc")
    shutil.move(root / "JPEGImages", tmp_path / "elsewhere")
    (root / "JPEGImages").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (root / "JPEGImages" / path.name).symlink_to(path)
    assert check_dataset("pascal_voc", root).faults == []


def test_splits_by_number_are_contiguous_blocks():
    card = load_card("lits")
    ids = [f"volume-{number}" for number in range(131)]
    sizes, seen = [], []
    for fold in range(5):
        parts = split_cases(card, ids[::-1], fold)
        numbers = sorted(int(case_id.split("-")[1]) for case_id in parts["validation"])
        assert numbers == [*range(numbers[0], numbers[-1] + 1)]
        assert not set(parts["training"]) & set(parts["validation"]) and parts["test"] == []
        assert len(parts["training"]) + len(numbers) == 131
        sizes.append(len(numbers))
        seen += numbers
    assert sizes == [26, 26, 26, 26, 27] and seen == [*range(131)]
    ids = [f"case_{number:05d}" for number in range(210)]
    assert [len(split_cases(load_card("kits19"), ids, fold)["validation"]) for fold in range(5)] == [42] * 5
    with pytest.raises(DatasetError, match="an id that ends in its number"):
        split_cases(card, ["a", "b", "c", "d", "e"], 0)


def test_cases_without_slices_count_in_the_blocks():
    """A slice store lists cases with tumour only; its folds are those of all cases."""
    card = load_card("lits")
    every = tuple(f"volume-{number}" for number in range(10))
    card = replace(card, splits=replace(card.splits, case_ids=every))
    parts = split_cases(card, ["volume-3", "volume-4", "volume-9"], 1)
    assert parts == {"training": ["volume-4", "volume-9"], "validation": ["volume-3"], "test": []}


@pytest.fixture
def store(grown, tmp_path):
    """A slice store of the LiTS tree."""
    card, cases = list_cases(load_card("lits"), grown["lits"])
    tasks = [slices.SliceTask(case, grown["lits"], tmp_path, card.name, card.slices, 2) for case in cases]
    slices.write_store(tmp_path, card, [slices.make_slices(task) for task in tasks], {})
    return tmp_path


def test_a_store_is_listed_by_slice_and_split_by_case(store):
    card, cases = list_cases(load_card("lits"), store)
    assert len(cases) == 15 and len({case.case_id for case in cases}) == 5
    assert cases[0].id == "volume-0_0002" and cases[0].label == cases[0].image
    sizes = []
    for fold in range(5):
        parts = part_cases(card, cases, fold)
        assert {case.case_id for case in parts["validation"]} == {f"volume-{fold}"}
        assert len(parts["training"]) + len(parts["validation"]) == 15 and parts["test"] == []
        sizes.append(len(parts["validation"]))
    assert sizes == [3] * 5
    result = check_dataset("lits", store)
    assert (result.num_cases, result.faults, result.notes) == (15, [], ["slices: 15 of 7190"])


def test_a_complete_store_is_compared_by_fold(store, monkeypatch):
    card = replace(load_card("lits"), num_cases=6, num_slices=15, fold_slices=(3, 3, 3, 3, 4))
    monkeypatch.setattr(data, "load_card", lambda name: card)
    notes = check_dataset("lits", store).notes
    assert notes == [
        "slices: 15 of 15",
        *(f"slices of fold {fold}: 3 of 3" for fold in range(4)),
        "slices of fold 4: 3 of 4",
    ]


def test_damaged_slices_are_named(store):
    path = store / "slices" / "volume-1"
    (path / "0003.npz").unlink()
    (path / "0002.npz").write_bytes((path / "0002.npz").read_bytes()[:500])
    image, label = np.zeros((512, 512), np.float32), np.zeros((512, 512), np.uint8)
    image[3, 4], label[5, 6] = np.nan, 2
    np.savez(path / "0004.npz", image=image, label=label)
    result = check_dataset("lits", store)
    found = problems(result)
    assert result.num_cases == 15 and len(result.faults) == 4
    assert "must be a slice with image and label" in found["volume-1_0002"][1]
    assert found["volume-1_0003"][1].endswith("(slice of the store's list without a file)")
    assert found["volume-1_0004"] == ("0004.npz", "the image has NaN or infinite pixels")
    assert "labels outside 0 to 1: 2" in [fault["problem"] for fault in result.faults]


def test_a_store_of_another_data_set_or_rule(store, monkeypatch):
    with pytest.raises(DatasetError, match="root must be made of kits19; got a slice store of lits"):
        list_cases(load_card("kits19"), store)
    with pytest.raises(DatasetError, match="made of camvid"):
        list_cases(load_card("camvid"), store)
    card = load_card("lits")
    card = replace(card, slices=replace(card.slices, names=("lesion",)))
    with pytest.raises(DatasetError, match="card's classes, lesion; got tumour .*run `data prepare` again"):
        list_cases(card, store)
    content = json.loads((store / "store.json").read_text())
    content["slices"][0]["file"] = "../../etc/passwd"
    (store / "store.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="paths inside its folder"):
        list_cases(load_card("lits"), store)


def test_damaged_volumes_are_named(copied):
    root = copied("kits19")
    case = {number: root / "data" / f"case_{number:05d}" for number in range(6)}
    image = case[0] / "imaging.nii.gz"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    (case[1] / "segmentation.nii.gz").unlink()
    (case[2] / "imaging.nii.gz").unlink()
    label = read_volume(case[3] / "segmentation.nii.gz")
    write_volume(case[3] / "segmentation.nii.gz", label.array.swapaxes(0, 2), label.affine)
    label = read_volume(case[4] / "segmentation.nii.gz")
    write_volume(case[4] / "segmentation.nii.gz", label.array * 3, label.affine)
    volume = read_volume(case[5] / "imaging.nii.gz")
    volume.array[2, 3, 4] = np.nan
    write_volume(case[5] / "imaging.nii.gz", volume.array, volume.affine)
    found = problems(check_dataset("kits19", root))
    assert found["case_00000"][0] == "imaging.nii.gz" and "must be a readable volume" in found["case_00000"][1]
    assert found["case_00001"][1].endswith("(image without label)")
    assert found["case_00002"][1].endswith("(label without image)")
    assert found["case_00003"][1] == "image and label differ in shape (8, 20, 24) and (24, 20, 8)"
    assert found["case_00004"] == ("segmentation.nii.gz", "labels outside 0 to 2: 3, 6")
    assert found["case_00005"] == ("imaging.nii.gz", "the image has NaN or infinite voxels")
    assert [*problems(check_dataset("kits19", root, labels_only=True))] == ["case_00001", "case_00004"]


def test_a_late_case_with_a_label_is_a_case(copied):
    root = copied("kits19")
    shutil.copytree(root / "data" / "case_00000", root / "data" / "case_00299")
    assert check_dataset("kits19", root).num_cases == 7


def test_volumes_without_geometry_are_noted(copied):
    """LiTS volume-28 to volume-47 carry the unit matrix."""
    root = copied("lits")
    for word in ("volume", "segmentation"):
        path = next(root.rglob(f"{word}-3.nii"))
        write_volume(path, read_volume(path).array, np.eye(4))
    result = check_dataset("lits", root)
    assert result.faults == []
    assert [note for note in result.notes if "1 cases with an affine of 1 mm" in note and "(volume-3)" in note]


def test_damaged_images_are_named(copied):
    root = copied("pascal_voc")
    masks, images = root / "SegmentationClass", root / "JPEGImages"
    first, second, third, fourth, fifth, sixth = trees.VOC_TRAIN
    with Image.open(masks / f"{first}.png") as mask:
        grey = mask.convert("L")
    grey.save(masks / f"{first}.png")
    (masks / f"{second}.png").write_bytes((masks / f"{second}.png").read_bytes()[:-60])
    (masks / f"{third}.png").unlink()
    (images / f"{fourth}.jpg").unlink()
    with Image.open(images / f"{fifth}.jpg") as image:
        image.resize((30, 30)).save(images / f"{fifth}.jpg")
    (images / f"{sixth}.jpg").write_bytes((images / f"{sixth}.jpg").read_bytes()[:900])
    result = check_dataset("pascal_voc", root)
    found = problems(result)
    assert found[first][0] == f"{first}.png" and "a palette image was read as luminance" in found[first][1]
    assert "must be a readable image" in found[second][1]
    assert found[third][1].endswith("(image without label)")
    assert found[fourth][1].endswith("(label without image)")
    assert "image and label differ in size: (30, 30) and (64, 48)" in found[fifth][1]
    assert found[sixth][0] == f"{sixth}.jpg" and "must be a readable image" in found[sixth][1]
    assert len(result.faults) == 6 and result.num_cases == 9
    assert [*problems(check_dataset("pascal_voc", root, labels_only=True))] == [first, second, third]


@pytest.mark.parametrize("name", ["cityscapes", "ade20k", "camvid"])
def test_unpaired_images_are_named(copied, name):
    root = copied(name)
    for part in ("train.txt", "val.txt", "test.txt"):
        (root / part).unlink(missing_ok=True)
    card, cases = list_cases(load_card(name), root)
    training = part_cases(card, cases, 0)["training"]
    training[0].label.unlink()
    training[1].image.unlink()
    result = check_dataset(name, root)
    found = problems(result)
    assert result.num_cases == len(cases)
    assert set(found) == {training[0].case_id, training[1].case_id}
    assert found[training[0].case_id][1].endswith("(image without label)")
    assert found[training[1].case_id][1].endswith("(label without image)")


def test_a_label_of_another_set_and_an_empty_one(copied):
    root = copied("ade20k")
    path = root / "annotations" / "validation" / "ADE_val_00000001.png"
    Image.fromarray(np.full(trees.SHAPE, 151, np.uint8)).save(path)
    path = path.with_name("ADE_val_00000003.png")
    Image.fromarray(np.zeros(trees.SHAPE, np.uint8)).save(path)
    result = check_dataset("ade20k", root)
    assert "151 (3072 pixels)" in problems(result)["ADE_val_00000001"][1] and len(result.faults) == 1
    assert "1 cases whose label is void throughout (ADE_val_00000003)" in result.notes


def test_more_cases_than_there_should_be(copied, monkeypatch):
    root = copied("camvid")
    card = replace(load_card("camvid"), parts={"training": 6, "validation": 2, "test": 0})
    monkeypatch.setattr(data, "load_card", lambda name: card)
    notes = check_dataset("camvid", root).notes
    assert notes == [
        "training images: 6 of 6",
        "validation images: 3 of 2, more than there should be",
        "test images: 3",
    ]


def test_labels_are_counted_in_every_chunk(monkeypatch):
    monkeypatch.setattr(data, "_CHUNK", 7)
    for place in range(60):
        label = np.zeros((3, 4, 5), np.uint16, order="F" if place % 2 else "C")
        label.flat[place] = 65535
        assert data._values_of(label) == [0, 65535]


def test_processes_find_the_same(copied, monkeypatch):
    root = copied("kits19")
    (root / "data" / "case_00003" / "segmentation.nii.gz").unlink()
    alone = check_dataset("kits19", root)
    monkeypatch.setattr(data, "choose_workers", lambda *numbers: 2)
    assert check_dataset("kits19", root) == alone
    assert len(alone.faults) == 1


def test_real_kits23_labels(real_data):
    root = real_data / "kits23_labels"
    result = check_dataset("kits23", root, labels_only=True)
    assert (result.num_cases, result.faults, result.notes) == (24, [], ["cases: 24 of 489"])
    card, cases = list_cases(load_card("kits23"), root)
    with (root / "cases.csv").open(encoding="utf-8") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert [case.case_id for case in cases] == sorted(rows)
    for case in cases[::4]:
        label, row = read_volume(case.label), rows[case.case_id]
        counts = np.bincount(label.array.reshape(-1, order="A"), minlength=4)
        ml = counts * voxel_volume_ml(label.affine)
        kidney, tumour, cyst = (float(row[f"{name}_ml"]) for name in ("kidney", "tumor", "cyst"))
        np.testing.assert_allclose(ml[1:], [kidney, tumour, cyst], atol=6e-4)
        assert counts[list(card.regions["tumor"])].sum() == int(row["tumor_voxels"])
        united = [ml[list(card.regions[name])].sum() for name in ("kidney_and_mass", "mass", "tumor")]
        np.testing.assert_allclose(united, [kidney + tumour + cyst, tumour + cyst, tumour], atol=2e-3)
        assert find_slice_axis(label.affine, "axial") == 0


def test_real_kits23_without_images_says_so(real_data, tmp_path):
    for name in ("case_00502", "case_00030"):
        (tmp_path / name).mkdir()
        shutil.copy(real_data / "kits23_labels" / name / "segmentation.nii.gz", tmp_path / name)
    result = check_dataset("kits23", tmp_path)
    assert [fault["problem"].split("(")[-1] for fault in result.faults] == ["label without image)"] * 2


def test_real_camvid(real_data):
    result = check_dataset("camvid", real_data / "camvid")
    assert (result.num_cases, result.faults) == (166, [])
    assert result.notes == ["training images: 96 of 367", "validation images: 30 of 101", "test images: 40 of 233"]
    card, cases = list_cases(load_card("camvid"), real_data / "camvid")
    parts = part_cases(card, cases, 0)
    assert "0001TP_006720" in [case.case_id for case in parts["training"]]
    classes = np.stack([read_classes(case.label, card) for case in parts["validation"]])
    assert classes.shape == (30, 360, 480)
    assert set(np.unique(classes)) <= {*range(11), VOID}
    assert 0.005 < (classes == VOID).mean() < 0.1
    known = json.loads((real_data / "camvid" / "classes.json").read_text())["classes"]
    assert {row["id"]: row["name"] for row in known if not row["ignore"]} == card.classes
    assert {row["id"]: tuple(row["colour_rgb"]) for row in known} == card.colours


def test_real_hippocampus(real_data):
    result = check_dataset("msd_hippocampus", real_data / "msd_hippocampus")
    assert (result.num_cases, result.faults, result.notes) == (194, [], ["cases: 194 of 260"])


def own_card(text, path):
    """The card in DATA.md that begins with a text, written to its own name."""
    document = (conftest.REPOSITORY / "DATA.md").read_text(encoding="utf-8")
    block = next(block for block in document.split("```yaml\n")[1:] if block.startswith(text)).split("```")[0]
    name = next(line.split()[1] for line in block.splitlines() if line.startswith("name:"))
    (path / f"{name}.yaml").write_text(block, encoding="utf-8")
    return path / f"{name}.yaml"


def test_own_cards_as_data_md_shows_them(tmp_path):
    card = load_card(own_card("name: my_livers", tmp_path))
    assert card.foreground_crop and card.slices.labels == {1: (2,)}
    path = own_card("kind: image", tmp_path)
    assert load_card(path).class_names == ("maize", "wheat", "other")
    root = tmp_path / "fields"
    for folder in ("train", "trainannot", "val", "valannot"):
        (root / folder).mkdir(parents=True)
    label = np.array([[0, 1, 2, 7, 255]] * 4, np.uint8)
    for part in ("train", "val"):
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(root / part / f"{part}_1.jpg")
        Image.fromarray(label).save(root / f"{part}annot" / f"{part}_1.png")
    result = check_dataset(str(path), root)
    assert (result.faults, result.notes) == ([], ["training images: 1", "validation images: 1"])
    card, cases = list_cases(load_card(path), root)
    assert read_classes(cases[0].label, card)[0].tolist() == [VOID, 0, 1, 2, VOID]
