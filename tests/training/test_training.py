"""Training: the stream of samples, the plan, several processes, resumption, void pixels; on miniature photographs."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from monai.data import Dataset
from monai.transforms import Compose, RandShiftIntensityd

from conftest import run, tiny_network
from rankseg_rma.bundles.open import find_card, open_bundle
from rankseg_rma.datasets import list_cases, load_card
from rankseg_rma.datasets.datalist import items_of
from rankseg_rma.prediction.predict import predict_entry
from rankseg_rma.training.engine import Schedule, make_optimizer, mean_iou, plan_epochs, poly_schedule
from rankseg_rma.training.samples import LoadSampled, NormaliseImaged
from rankseg_rma.training.stream import SampleStream, StreamBatches
from trees import make_camvid, make_msd


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(2)))
    (folder / "small.yaml").write_text(
        yaml.safe_dump(
            {
                "dataset": "camvid", "network": str(folder / "tiny.yaml"), "optimizer": "adamw", "learning_rate": 0.01,
                "weight_decay": 0.0, "batch_size": 4, "crop_size": [32, 32], "max_iterations": 3, "num_workers": 0,
                "head_multiplier": 1, "colour_jitter": True,
            }
        )
    )  # fmt: skip
    return folder, make_camvid(folder / "data")


def losses(run_folder):
    with (run_folder / "logs" / "loss.csv").open() as file:
        return [(int(row["epoch"]), float(row["loss"])) for row in csv.DictReader(file)]


def test_plan():
    assert plan_epochs(10, 4, 3, None, 1000) == Schedule(3, 3, 9)
    assert plan_epochs(10, 4, 3, 1, 1000) == Schedule(1, 1, 1)
    assert plan_epochs(10, 4, 3, 40_000, 1000) == Schedule(40, 1000, 40_000)


def test_learning_rate_rises_then_falls_to_zero():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = poly_schedule(optimizer, 100, power=0.9, warmup_fraction=0.1, start_learning_rate=0.01)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.01)
    assert rates[5] == pytest.approx(0.25)
    assert rates[10] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.5 * 0.5**0.9)
    assert rates[100] == 0


def test_optimizers():
    network = torch.nn.Conv2d(1, 1, 1)
    sgd = make_optimizer(network, "sgd", 0.01, 0.0005, 0.9, 10)
    assert isinstance(sgd, torch.optim.SGD) and sgd.defaults["momentum"] == 0.9
    with pytest.raises(ValueError, match="optimizer_name"):
        make_optimizer(network, "adam", 0.01, 0, 0.9, 10)


@pytest.fixture
def stream():
    items = Dataset([{"image": torch.full((1, 2, 2), float(k))} for k in range(5)])
    return SampleStream(items, Compose([RandShiftIntensityd("image", 0.3, prob=1.0)]), seed=7)


def test_stream_is_a_function_of_the_position(stream):
    forward = [stream[k]["image"][0, 0, 0].item() for k in range(10)]
    backward = [stream[k]["image"][0, 0, 0].item() for k in reversed(range(10))][::-1]
    assert forward == backward
    assert sorted(round(value) for value in forward[:5]) == [0, 1, 2, 3, 4]
    assert sorted(round(value) for value in forward[5:]) == [0, 1, 2, 3, 4]
    assert [round(value) for value in forward[:5]] != [round(value) for value in forward[5:]]
    assert len({value - round(value) for value in forward}) == 10, "every sample has random numbers of its own"


def test_processes_share_the_batches_of_one():
    whole, first, second = StreamBatches(3, 4, 0, 1), StreamBatches(3, 4, 0, 2), StreamBatches(3, 4, 1, 2)
    for batches in (whole, first, second):
        batches.epoch = 2
    assert list(whole) == [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]]
    assert [a + b for a, b in zip(first, second, strict=True)] == list(whole)
    with pytest.raises(ValueError, match="multiple of the number of processes, 2"):
        StreamBatches(3, 5, 0, 2)


def test_photographs_train_and_predict(photos, tmp_path):
    folder, data = photos
    out = tmp_path / "run"
    said = run("train", "--recipe", folder / "small.yaml", "--root", data, "--out", out, "--iterations", 40)
    assert "temperature" in said
    first, last = losses(out)[0][1], losses(out)[-1][1]
    assert np.isfinite([first, last]).all()
    bundle, card = open_bundle(out), find_card(out)
    assert (bundle.kind, bundle.label_names) == ("image", card.class_names)
    entry = items_of(out / "configs" / "datalist.json", "test", data)[0]
    probs, label = predict_entry(bundle, entry, card)
    assert probs.shape == (11, *label.shape)
    assert torch.allclose(probs.sum(dim=0), torch.ones(label.shape))
    known = label != 255
    accuracy = (probs.argmax(dim=0).numpy() == label)[known].mean()
    assert accuracy > 1 / 4, "it learned more than chance among the classes of the scene"
    metadata = json.loads((out / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["0"] == "Sky"


def test_void_is_kept_through_augmentation(photos, tmp_path):
    """Padding and void stay 255, whatever the scale; no interpolation makes classes of them."""
    from monai.bundle import ConfigParser

    folder, data = photos
    out = tmp_path / "run"
    run("train", "--recipe", folder / "small.yaml", "--root", data, "--out", out, "--iterations", 1)
    parser = ConfigParser()
    parser.read_config(str(out / "configs" / "train.yaml"))
    parser["bundle_root"], parser["dataset_dir"] = str(out), str(data)
    parser["crop_size"], parser["colour_jitter"] = [96, 96], False
    stream = parser.get_parsed_content("train::dataset")
    stored = {value for k in range(len(stream.items)) for value in np.unique(stream.items[k]["label"]).tolist()}
    assert 255 in stored and 11 not in stored
    for position in range(12):
        sample = stream[position]
        assert sample["image"].shape == (3, 96, 96) and sample["label"].shape == (1, 96, 96)
        assert set(np.unique(sample["label"]).tolist()) <= stored
        padded = (sample["image"].std(dim=0) < 0.2) & (sample["image"].abs().amax(dim=0) < 0.2)
        assert (sample["label"][0][padded] == 255).float().mean() > 0.95


def test_intensities():
    image = torch.tensor([[[0.0, 100.0, 140.0, 500.0, -60.0]]])
    window = NormaliseImaged({"kind": "window", "low": -60, "high": 140})({"image": image})["image"]
    assert torch.allclose(torch.as_tensor(window), torch.tensor([[[-0.4, 0.6, 1.0, 1.0, -1.0]]]))
    rgb = NormaliseImaged({"kind": "rgb", "mean": [10, 20, 30], "std": [1, 2, 4]})
    found = rgb({"image": torch.full((3, 1, 1), 30.0)})["image"]
    assert torch.as_tensor(found).flatten().tolist() == [20, 5, 0]
    assert torch.as_tensor(image).flatten().tolist() == [0, 100, 140, 500, -60], "the input stays as it is"
    before = image.clone()
    scored = NormaliseImaged({"kind": "zscore"})({"image": image})["image"]
    assert torch.equal(image, before)
    assert abs(float(scored.mean())) < 1e-6
    with pytest.raises(ValueError, match=r"intensity\.kind"):
        NormaliseImaged({"kind": "minmax"})


def test_sample_of_a_photograph(photos):
    _, data = photos
    card, cases = list_cases(load_card("camvid"), data)
    entry = {"image": cases[0].image, "label": cases[0].label}
    sample = LoadSampled(card)(entry)
    assert sample["image"].dtype == torch.float32 and sample["image"].amax() > 1
    assert sample["label"].shape == (1, *sample["image"].shape[1:])


def test_mean_iou_leaves_out_absent_classes():
    from ignite.metrics import ConfusionMatrix

    confusion = ConfusionMatrix(num_classes=3)
    metric = mean_iou(confusion)
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 0, 1, 1, 1]]]), 3).permute(0, 3, 1, 2).float()
    confusion.update((logits, torch.tensor([[[0, 1, 1, 1, 255]]])))
    assert float(metric.compute()) == pytest.approx((1 / 2 + 2 / 3) / 2)


def in_two_processes(*words):
    """Call the command in two processes, as torchrun starts them. Returns what it says."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "rankseg_rma"]
    done = subprocess.run([sys.executable, *launcher, *map(str, words)], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 processes on this machine with 1 threads each" in " ".join(done.stdout.split())
    return done.stdout


def test_two_processes_train_as_one(photos, tmp_path):
    """Same batches, averaged gradients: the loss curves agree, and so do the weights."""
    folder, data = photos
    common = ["train", "--recipe", folder / "small.yaml", "--root", data, "--iterations", 6,
              "--iterations-per-epoch", 2]  # fmt: skip
    alone, together = tmp_path / "alone", tmp_path / "together"
    run(*common, "--out", alone)
    assert in_two_processes(*common, "--out", together).count("temperature") == 1, "only the first process talks"
    one, two = losses(alone), losses(together)
    assert len(one) == 3 and [epoch for epoch, _ in one] == [epoch for epoch, _ in two]
    # Each process averages over its own valid pixels, of which the two have not quite as many.
    assert np.allclose([loss for _, loss in one], [loss for _, loss in two], rtol=2e-3)
    weights = [torch.load(path / "models" / "model.pt", weights_only=True) for path in (alone, together)]
    assert weights[0].keys() == weights[1].keys()
    start = max(float(value.abs().max()) for value in weights[0].values())
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=0.05 * start) for name in weights[0])


def test_two_processes_train_volumes_as_one(tmp_path):
    """In 3D no voxel is void, so the curves agree to the last printed digit, and so does the shared validation."""
    from rankseg_rma.datasets.phantom import make_phantom

    make_phantom(tmp_path / "data", 8, seed=1)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(3)))
    common = ["train", "--dataset", "phantom", "--root", tmp_path / "data", "--network", tmp_path / "tiny.yaml",
              "--epochs", 2, "--batch-size", 2]  # fmt: skip
    run(*common, "--out", tmp_path / "alone")
    in_two_processes(*common, "--out", tmp_path / "together")
    one, two = losses(tmp_path / "alone"), losses(tmp_path / "together")
    assert len(one) == 2 and np.allclose([loss for _, loss in one], [loss for _, loss in two], rtol=1e-5)


def test_killed_training_of_photographs_goes_on(photos, tmp_path):
    folder, data = photos
    options = ("--ema-decay", 0.5, "--accumulation-steps", 2, "--iterations", 4, "--iterations-per-epoch", 2)
    run("train", "--recipe", folder / "small.yaml", "--root", data, *options, "--out", tmp_path / "whole")
    killed = shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for path in (killed / "models").glob("*epoch=2*"):
        path.unlink()
    (killed / "models" / "model.pt").unlink()
    run("train", "--recipe", folder / "small.yaml", "--root", data, *options, "--out", killed)
    whole, resumed = (torch.load(tmp_path / n / "models" / "model.pt", weights_only=True) for n in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(killed)
    last = torch.load(tmp_path / "whole" / "models" / "checkpoint_epoch=2.pt", weights_only=True)
    assert not all(torch.equal(whole[name], last["network"][name]) for name in whole), "the average is kept"


def test_a_network_of_other_dimensions_is_refused(photos, tmp_path):
    folder, data = photos
    said = run("train", "--dataset", "camvid", "--root", data, "--network", "unet3d", "--out", tmp_path / "a", code=2)
    assert "a 2D network, since the data set holds images" in " ".join(said.split())
    volumes = make_msd(tmp_path / "msd")
    said = run("train", "--dataset", "msd", "--root", volumes, "--network", folder / "tiny.yaml", "--out",
               tmp_path / "b", code=2)  # fmt: skip
    assert "data prepare" in said and not (tmp_path / "b").exists()
    said = run("train", "--root", data, "--out", tmp_path / "c", code=2)
    assert "given by --dataset or --recipe" in said


def test_photographs_are_decoded_by_infer(photos, tmp_path):
    from PIL import Image

    folder, data = photos
    out = tmp_path / "run"
    run("train", "--recipe", folder / "small.yaml", "--root", data, "--out", out, "--iterations", 2)
    (tmp_path / "images").mkdir()
    for path in sorted((data / "test").glob("*.png"))[:2]:
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    torn = tmp_path / "images" / "torn.png"
    torn.write_bytes(path.read_bytes()[:300])
    said = run("infer", "--bundle", out, "-i", tmp_path / "images", "--out", tmp_path / "masks", "--save-probabilities",
               code=1)  # fmt: skip
    assert "torn.png" in said
    with (tmp_path / "masks" / "inference_images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 11 and rows[0]["class_name"] == "Sky"
    with Image.open(tmp_path / "masks" / "argmax" / f"{path.stem}.png") as mask, Image.open(path) as image:
        assert mask.mode == "P" and mask.size == image.size
        mask.load()
    probs = np.load(tmp_path / "masks" / "probabilities" / f"{path.stem}.npz")["probabilities"]
    counts = np.bincount(np.asarray(mask).ravel(), minlength=11)
    mine = [row for row in rows if row["case_id"] == path.stem]
    assert [int(row["pixels_argmax"]) for row in mine] == counts.tolist()
    mass = [float(row["expected_pixels"]) for row in mine]
    assert sum(mass) == pytest.approx(mask.size[0] * mask.size[1], rel=1e-4) and probs.shape == (11, *mask.size[::-1])
    whole = run("infer", "--bundle", out, "--root", data, "--part", "validation", "--out", tmp_path / "all")
    assert "wrote" in whole
    assert "images: .png" in run("infer", "--bundle", out, "-i", out / "configs", "--out", tmp_path / "b", code=2)


def test_slices_are_stacked_into_their_volume(tmp_path):
    """A 2D network on a NIfTI volume gives, slice by slice, what it gives on the slice store."""
    from rankseg_rma.datasets.axial import to_axial
    from rankseg_rma.files.volumes import read_volume
    from rankseg_rma.prediction.predict import predict_probabilities

    raw, store = make_msd(tmp_path / "raw"), tmp_path / "store"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(2)))
    run("data", "prepare", "msd_hippocampus", "--root", raw, "--out", store)
    out = tmp_path / "run"
    run("train", "--dataset", "msd_hippocampus", "--root", store, "--network", tmp_path / "tiny.yaml",
        "--iterations", 2, "--batch-size", 2, "--out", out)  # fmt: skip
    bundle, card = open_bundle(out), find_card(out)
    assert (bundle.kind, bundle.label_names) == ("slices", ("anterior", "posterior"))
    entries = items_of(out / "configs" / "datalist.json", "test", store)
    case = [entry for entry in entries if entry["case_id"] == entries[0]["case_id"]]
    assert len(case) > 1
    path = raw / "imagesTr" / f"{case[0]['case_id']}.nii.gz"
    found, volume = predict_probabilities(bundle, path), read_volume(path)
    assert found.probs.shape == (3, *volume.array.shape)
    stack = np.stack([to_axial(channel.numpy(), volume.affine) for channel in found.probs])
    for entry in case:
        probs, label = predict_entry(bundle, entry, card)
        assert probs.shape[1:] == label.shape
        assert np.allclose(stack[:, entry["slice_index"]], probs.numpy(), atol=1e-6)
    said = run("infer", "--bundle", out, "-i", path, "--unit", "slice", "--out", tmp_path / "masks")
    assert "temperature" in said and (tmp_path / "masks" / "rma" / path.name).is_file()
    said = run("infer", "--bundle", out, "--root", store, "--out", tmp_path / "no", code=2)
    assert "rankseg-rma test" in said


def test_a_label_of_another_size_does_not_train(photos, tmp_path):
    from PIL import Image

    from rankseg_rma.checks import DatasetError

    _, data = photos
    card, cases = list_cases(load_card("camvid"), data)
    Image.open(cases[0].label).resize((20, 10), 0).save(tmp_path / "small.png")
    with pytest.raises(DatasetError, match="of the image's size"):
        LoadSampled(card)({"image": cases[0].image, "label": tmp_path / "small.png"})


def test_a_bundle_loads_no_encoder_weights_again(tmp_path):
    from rankseg_rma.bundles.write import write_bundle
    from rankseg_rma.datasets import list_cards

    entries = {"network_def": {**tiny_network(2)["network_def"], "encoder_weights": "imagenet"}}
    write_bundle(tmp_path / "run", load_card("camvid"), {"training": []}, entries, list_cards()["camvid"])
    written = [yaml.safe_load((tmp_path / "run" / "configs" / f"{name}.yaml").read_text()) for name in
               ("train", "inference")]  # fmt: skip
    assert [content["network_def"]["encoder_weights"] for content in written] == ["imagenet", None]


def test_views_of_a_test_replace_those_of_the_run(photos, tmp_path):
    folder, data = photos
    out = tmp_path / "run"
    run("train", "--recipe", folder / "small.yaml", "--root", data, "--out", out, "--iterations", 1)
    bundle = open_bundle(out, entries={"ratios": [0.5, 1.0], "flip": True, "stride_rate": None})
    assert (bundle.inferer.ratios, bundle.inferer.flip, bundle.inferer.stride_rate) == ((0.5, 1.0), True, 2 / 3)
    image = torch.rand(3, 40, 60) * 255
    from rankseg_rma.prediction.predict import predict_image

    probs = predict_image(bundle, image)
    assert torch.allclose(probs, predict_image(bundle, image.flip(-1)).flip(-1), atol=1e-5)
    said = run("test", "--dataset", "camvid", "--root", data, "--bundle", out, "--ratios", "0.5,1", "--flip", "--out",
               tmp_path / "scores")  # fmt: skip
    assert "mIoU^I" in said
    record = json.loads((tmp_path / "scores" / "test.json").read_text())
    assert record["views"] == {"ratios": [0.5, 1.0], "flip": True, "stride_rate": None}


def test_multiscale_against_a_plain_average():
    from rankseg_rma.prediction.multiscale import MultiScaleInferer

    def network(window):
        return torch.cat([window, window**2], dim=1)

    image = torch.rand(1, 1, 12, 16)
    inferer = MultiScaleInferer((12, 16), ratios=(1.0, 0.5), flip=True, stride_rate=1.0)
    found = inferer(image, network).softmax(dim=1)
    small = torch.nn.functional.interpolate(image, (6, 8), mode="bilinear", align_corners=False)
    # The smaller image is padded to the window with zeros and cut back.
    pieces = [network(image).softmax(dim=1)] * 2
    halves = torch.nn.functional.interpolate(network(small).softmax(dim=1), (12, 16), mode="bilinear")
    expected = (sum(pieces) + 2 * halves) / 4
    assert torch.allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="ratios"):
        MultiScaleInferer((4, 4), ratios=(0.0,))
    with pytest.raises(ValueError, match="stride_rate"):
        MultiScaleInferer((4, 4), stride_rate=1.5)
