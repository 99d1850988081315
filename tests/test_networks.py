"""Network definitions, encoder weights, parameter groups, recipes; and the shim for torchvision that the tests use."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets.cards import list_cards
from rankseg_rma.networks import (
    ARCHITECTURES,
    ENCODERS,
    PaddedNetwork,
    encoder_of,
    encoder_parameters,
    list_networks,
    natural_network,
    network_config,
    parameter_groups,
    spatial_dims_of,
)
from rankseg_rma.training.recipes import Recipe, list_recipes, load_recipe

DEFINITIONS = {name: network_config(name) for name in list_networks()}


def build(name, in_channels=3, num_classes=5):
    entries = {"in_channels": in_channels, "num_classes": num_classes, "encoder_weights": None}
    return ConfigParser({**entries, "network_def": DEFINITIONS[name]}).get_parsed_content("network_def")


def is_natural(name):
    return DEFINITIONS[name]["_target_"].endswith("natural_network")


# MiT cannot be built on the meta device; its large ones have the layers of the small ones, only more.
@pytest.mark.parametrize("name", [name for name in DEFINITIONS if name not in ("segformer_mit_b3", "segformer_mit_b5")])
def test_every_definition_builds_and_keeps_the_size(name):
    on_meta = is_natural(name) and "mit_b" not in name
    with torch.device("meta" if on_meta else "cpu"), torch.inference_mode():
        if spatial_dims_of(DEFINITIONS[name]) == 2:
            assert build(name).eval()(torch.zeros(1, 3, 70, 50)).shape == (1, 5, 70, 50)
        else:
            # Swin UNETR pads this to 64 x 32 x 32, the least that its deepest norm takes.
            shape = (40, 30, 20) if name.startswith("swin") else (32, 32, 32)
            assert build(name, 2).eval()(torch.zeros(1, 2, *shape)).shape == (1, 5, *shape)


def test_the_paper_s_networks_are_there():
    expected = {f"segformer_mit_b{size}" for size in range(6)} | {"upernet_convnext_base"}
    expected |= {f"{net}_resnet{depth}d" for net in ("unet", "deeplabv3plus", "pspnet") for depth in (50, 101)}
    expected |= {"unet3d", "dynunet3d", "segresnet3d", "swinunetr3d", "unet2d", "segresnet2d_small"}
    assert expected <= set(DEFINITIONS)
    for name in filter(is_natural, DEFINITIONS):
        definition = DEFINITIONS[name]
        assert definition["architecture"] in ARCHITECTURES and definition["encoder"] in ENCODERS
        assert definition["encoder_weights"] == "@encoder_weights"
        assert name == f"{definition['architecture']}_{definition['encoder']}"


def test_dimensions_of_a_definition():
    for name, definition in DEFINITIONS.items():
        assert spatial_dims_of(definition) == (3 if "3d" in name else 2), name
    assert spatial_dims_of({"_target_": "somewhere.Network"}) is None


def test_small_networks_for_cpus_are_small():
    sizes = {name: sum(p.numel() for p in build(name).parameters()) for name in ("segresnet2d_small", "unet2d")}
    assert 0.3e6 < sizes["unet2d"] < sizes["segresnet2d_small"] < 1.1e6


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_compute_and_learn_at_any_size(architecture, in_channels):
    torch.manual_seed(0)
    encoder = "mit_b0" if architecture == "segformer" else "resnet18"
    network = natural_network(architecture, encoder, in_channels, 4)
    logits = network(torch.randn(2, in_channels, 70, 50))
    assert logits.shape == (2, 4, 70, 50) and logits.isfinite().all()
    logits.square().mean().backward()
    # A parameter without gradient would stop training on several processes.
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]


def test_strides_are_those_of_the_paper():
    with torch.device("meta"):
        strides = {name: natural_network(name, "resnet50d", 3, 2).multiple for name in ARCHITECTURES}
        deepest = encoder_of(natural_network("pspnet", "resnet50d", 3, 2))(torch.zeros(1, 3, 64, 64))[-1]
    assert strides == {"unet": 32, "deeplabv3plus": 8, "pspnet": 8, "upernet": 32, "segformer": 32}
    assert deepest.shape == (1, 2048, 8, 8)


def test_padding_repeats_the_border_and_is_cut_back():
    seen = []

    class Look(torch.nn.Module):
        def forward(self, image):
            seen.append(image)
            return image * 2

    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    out = PaddedNetwork(Look(), 4)(image)
    torch.testing.assert_close(out, image * 2)
    assert seen[0].shape == (1, 1, 4, 4)
    assert seen[0][0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert PaddedNetwork(Look(), 2)(torch.zeros(1, 1, 3, 4, 5)).shape == (1, 1, 3, 4, 5)


def test_the_head_learns_faster_than_the_encoder():
    network = natural_network("unet", "resnet18", 3, 4)
    encoder, head = parameter_groups(network, 0.5, 10)
    assert (encoder["lr"], head["lr"]) == (0.5, 5.0)
    assert len(encoder["params"]) == len(list(encoder_of(network).parameters()))
    everything = {id(parameter) for parameter in network.parameters()}
    ids = [id(parameter) for group in (encoder, head) for parameter in group["params"]]
    assert len(ids) == len(set(ids)) and set(ids) == everything
    wrapped = torch.nn.Module()
    wrapped.module = network  # as DistributedDataParallel wraps it
    assert len(encoder_parameters(wrapped)) == len(encoder["params"])
    for parameter in encoder["params"]:
        parameter.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(network, 0.5, 10)] == [len(head["params"])]


def test_a_network_without_encoder_is_one_group():
    network = build("unet2d")
    (group,) = parameter_groups(network, 0.5, 10)
    assert group["lr"] == 0.5 and len(group["params"]) == len(list(network.parameters()))
    assert encoder_of(network) is None


def timm_classifier(seed=1):
    """State of a ResNet-18 classifier under timm's own names, as its hub stores it."""
    import timm

    torch.manual_seed(seed)
    return timm.create_model("resnet18").state_dict()


def save(state, path):
    from safetensors.torch import save_file

    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.pt"])
def test_weights_from_a_file(tmp_path, name):
    state = timm_classifier()
    network = natural_network("unet", "resnet18", 3, 2, save(state, tmp_path / name))
    loaded = encoder_of(network).state_dict()
    for key in ("conv1.weight", "layer4.1.conv2.weight", "bn1.running_var"):
        torch.testing.assert_close(loaded[f"model.{key}"], state[key], rtol=0, atol=0)


@pytest.mark.parametrize("container", ["state_dict", "model"])
def test_weights_in_a_container_and_of_a_whole_network(tmp_path, container):
    trained = natural_network("unet", "resnet18", 3, 2)
    path = save({container: trained.state_dict(), "epoch": 3}, tmp_path / "model.pt")
    network = natural_network("deeplabv3plus", "resnet18", 3, 7, path)
    for one, other in zip(encoder_parameters(trained), encoder_parameters(network), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("in_channels", "factor"), [(1, 3.0), (6, 0.5)])
def test_colour_weights_for_other_channels(tmp_path, in_channels, factor):
    state = timm_classifier()
    network = natural_network("unet", "resnet18", in_channels, 2, save(state, tmp_path / "weights.pt"))
    first = encoder_of(network).state_dict()["model.conv1.weight"]
    # A grey image, the same in all channels, gives what the colour weights give for it.
    torch.testing.assert_close(first.sum(1), state["conv1.weight"].sum(1), rtol=1e-4, atol=1e-5)
    assert first.shape[1] == in_channels
    torch.testing.assert_close(first.mean(1), state["conv1.weight"].mean(1) * factor, rtol=1e-4, atol=1e-5)


def test_names_of_convnext_and_mit_weights(tmp_path):
    import timm

    state = timm.create_model("convnext_atto").state_dict()
    assert "stages.0.blocks.0.gamma" in state and "head.norm.weight" in state
    network = natural_network("upernet", "tu-convnext_atto", 3, 2, save(state, tmp_path / "convnext.safetensors"))
    loaded = encoder_of(network).state_dict()["model.stages_0.blocks.0.conv_dw.weight"]
    torch.testing.assert_close(loaded, state["stages.0.blocks.0.conv_dw.weight"], rtol=0, atol=0)

    mit = encoder_of(natural_network("segformer", "mit_b0", 3, 2)).state_dict()
    path = save({**mit, "head.weight": torch.zeros(1000, 256)}, tmp_path / "mit.pth")
    loaded = encoder_of(natural_network("segformer", "mit_b0", 3, 2, path)).state_dict()
    torch.testing.assert_close(loaded["block4.1.mlp.fc2.weight"], mit["block4.1.mlp.fc2.weight"], rtol=0, atol=0)


def test_weights_of_something_else_are_refused(tmp_path):
    state = timm_classifier()
    del state["layer1.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(2)
    state["bn1.weight"] = torch.zeros(63)
    message = r"missing: model.layer1.0.conv1.weight; unknown: layer9.weight; of another shape: bn1.weight \(63,\) for"
    with pytest.raises(DatasetError, match=message):
        natural_network("unet", "resnet18", 3, 2, save(state, tmp_path / "weights.pt"))
    with pytest.raises(DatasetError, match=r"missing: .*, .* and \d+ more"):
        natural_network("unet", "resnet18", 3, 2, save({"fc.weight": torch.zeros(2)}, tmp_path / "head.pt"))
    with pytest.raises(FileNotFoundError, match="encoder_weights must be null, 'imagenet' or the path"):
        natural_network("unet", "resnet18", 3, 2, str(tmp_path / "nothing.pth"))


def test_files_that_hold_no_weights(tmp_path):
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"\x10\x00")
    code = tmp_path / "code.pth"
    torch.save({"weight": Recipe}, code)  # a pickled class is code, and is not run
    for path in (torn, code):
        with pytest.raises(DatasetError, match="a readable file"):
            natural_network("unet", "resnet18", 3, 2, str(path))
    with pytest.raises(DatasetError, match="tensors by their names"):
        natural_network("unet", "resnet18", 3, 2, save({"state_dict": {"epoch": 3}}, tmp_path / "epoch.pt"))


BUILD_IMAGENET = (
    "import sys, torch; from rankseg_rma.networks import *\n"
    "for encoder in sys.argv[1:]:\n"
    "    try:\n        network = natural_network('unet', encoder, 3, 2, 'imagenet')\n"
    "    except Exception as error:\n        print(type(error).__name__, ' '.join(str(error).split()))\n"
    "    else:\n        print(float(encoder_of(network).state_dict()['model.bn1.weight'].sum()))"
)


def build_with_cache(cache, monkeypatch, *encoders):
    """What building each of the encoders says, a line each, in a process of its own: the hub reads these once."""
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [sys.executable, "-c", BUILD_IMAGENET, *encoders]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_without_network_the_error_says_what_to_put_where(tmp_path, monkeypatch):
    repositories = {"resnet50d": "timm/resnet50d.ra2_in1k", "mit_b4": "smp-hub/mit_b4.imagenet",
                    "convnext_base": "timm/convnext_base.fb_in22k_ft_in1k_384"}  # fmt: skip
    told = build_with_cache(tmp_path, monkeypatch, *repositories)
    wanted = "FileNotFoundError natural_network: 'imagenet' weights must be in the cache or within reach"
    for said, repository in zip(told, repositories.values(), strict=True):
        assert said.startswith(wanted)
        assert f"Fetch model.safetensors of https://huggingface.co/{repository} " in said
        assert f"models--{repository.replace('/', '--')}" in said and str(tmp_path) in said
        assert "give its path as encoder_weights" in said


def test_imagenet_weights_from_the_hub_s_cache(tmp_path, monkeypatch):
    folder = tmp_path / "models--timm--resnet18.a1_in1k"
    (folder / "snapshots" / "0123").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    state = timm_classifier()
    state["bn1.weight"] = torch.full((64,), 0.25)
    save(state, folder / "snapshots" / "0123" / "model.safetensors")
    assert build_with_cache(tmp_path, monkeypatch, "resnet18") == ["16.0"]


def test_unknown_names_and_weights_that_do_not_exist():
    with pytest.raises(ValueError, match=r"architecture must be one of 'unet', .*; got 'unett'"):
        natural_network("unett", "resnet18", 3, 2)
    with pytest.raises(ValueError, match=r"encoder must be .*got 'resnet50x'.*Did you mean 'resnet50d'\?"):
        natural_network("unet", "resnet50x", 3, 2)
    with pytest.raises(ValueError, match="'tu-' and the name of a timm model; got 'tu-nothing'"):
        natural_network("unet", "tu-nothing", 3, 2)
    with pytest.raises(ValueError, match="encoder_weights must be null or a file; got 'imagenet' for"):
        natural_network("unet", "tu-resnet50t", 3, 2, "imagenet")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'timm'"), r"named 'timm'. Run pip install 'rankseg-rma\[natural\]'"),
        (RuntimeError("operator torchvision::nms does not exist"), r"torchvision must be importable; got operator"),
    ],
)  # fmt: skip
def test_without_the_extra_the_error_says_what_to_install(monkeypatch, error, message):
    class Broken:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "segmentation_models_pytorch":
                raise error

    monkeypatch.delitem(sys.modules, "segmentation_models_pytorch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    with pytest.raises(ImportError, match=message):
        natural_network("unet", "resnet18", 3, 2)


def test_the_shim_serves_subprocesses_and_is_light():
    code = (
        "import sys; assert not {'torch', 'torchvision'} & set(sys.modules)\n"
        "import torchvision, torch; torch.ops.torchvision.nms; print(torchvision.__version__)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_shim_declares_nothing_where_the_library_loads(monkeypatch, tmp_path):
    shim = sys.modules["torchvision_shim"]
    declared, loaded = [*shim._declared], []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    shim.declare_missing_operators(tmp_path / "_C.so")
    assert loaded == [str(tmp_path / "_C.so")] and shim._declared == declared


def test_shipped_recipes_fit_their_networks_and_cards():
    recipes = [load_recipe(name) for name in list_recipes()]
    assert len(recipes) >= 12
    for recipe in recipes:
        assert recipe.name.startswith(recipe.dataset + "_") and recipe.dataset in list_cards(), recipe.name
        assert spatial_dims_of(DEFINITIONS[recipe.network]) == 2
        assert (recipe.encoder_weights == "imagenet") == is_natural(recipe.network), recipe.name
        assert recipe.loss == "ce" and recipe.note and recipe.network.startswith(recipe.name.rsplit("_", 1)[1])


def test_the_paper_s_settings():
    upernet, unet = load_recipe("pascal_voc_upernet"), load_recipe("lits_unet")
    assert (upernet.optimizer, upernet.learning_rate, upernet.weight_decay) == ("adamw", 6e-5, 0.01)
    assert (unet.optimizer, unet.learning_rate, unet.weight_decay, unet.max_epochs) == ("sgd", 1e-2, 5e-4, 60)
    lengths = {name: load_recipe(f"{name}_segformer").max_iterations for name in ("pascal_voc", "cityscapes", "ade20k")}
    assert lengths == {"pascal_voc": 40_000, "cityscapes": 80_000, "ade20k": 160_000}
    assert load_recipe("cityscapes_upernet").crop_size == (512, 1024) and unet.crop_size == (384, 384)


def write_recipe(folder, **changes):
    content = {
        "dataset": "camvid", "network": "unet2d", "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0,
        "batch_size": 2, "crop_size": [32, 48], "max_epochs": 3, **changes,
    }  # fmt: skip
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value != "left out"}))
    return path


def test_a_recipe_of_one_s_own_has_the_usual_settings(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path))
    assert replace(recipe, note="other") != recipe
    assert (recipe.name, recipe.crop_size, recipe.ratios, recipe.loss) == ("mine", (32, 48), (1.0,), "ce")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rte": 0.1}, r"unknown learning_rte \(.*Did you mean 'learning_rate'\?"),
        ({"optimizer": "left out"}, "missing optimizer"),
        ({"optimizer": "adam"}, r"optimizer must be one of adamw, sgd; got 'adam' .*Did you mean 'adamw'\?"),
        ({"loss": "dyce"}, r"loss must be .*Did you mean 'dice'\?"),
        ({"network": "unet_2d"}, r"network must be .*Did you mean 'unet2d'\?"),
        ({"learning_rate": "6e-5"}, "learning_rate must be a number .*Write 6.0e-5, with a point"),
        ({"learning_rate": True}, "learning_rate must be a number"),
        ({"weight_decay": -1}, r"weight_decay must be a number in \[0, inf\]; got -1"),
        ({"warmup_fraction": 1.5}, r"warmup_fraction must be a number in \[0, 1\]"),
        ({"stride_rate": 0}, "stride_rate must be a number"),
        ({"max_iterations": 5}, "one of max_iterations and max_epochs; got max_iterations 5, max_epochs 3"),
        ({"max_epochs": None}, "length must be one of"),
        ({"max_epochs": 0}, "max_epochs must be a whole number from 1"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"num_workers": -1}, "num_workers must be"),
        ({"crop_size": [32]}, "crop_size must be height and width"),
        ({"crop_size": 32}, "crop_size must be height and width"),
        ({"scale_range": [2.0, 0.5]}, "scale_range must be two factors, the smaller first"),
        ({"ratios": []}, "ratios must be a list of factors"),
        ({"flip": "yes please"}, "flip must be true or false"),
        ({"encoder_weights": 3}, "encoder_weights must be null, imagenet or the path"),
        ({"name": "other"}, "name must be the file's name, 'mine'"),
    ],
)  # fmt: skip
def test_faults_of_a_recipe_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(write_recipe(tmp_path, **changes))


def test_recipes_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"recipe must be one of ade20k_.*Did you mean 'pascal_voc_upernet'\?"):
        load_recipe("pascal_voc_upernett")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ValueError, match="recipe must be a mapping"):
        load_recipe(tmp_path / "list.yaml")
    (tmp_path / "torn.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="recipe must be a YAML file"):
        load_recipe(tmp_path / "torn.yaml")
