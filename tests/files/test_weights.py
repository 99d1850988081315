"""Checkpoints of others: one nest and one prefix may explain all names; anything else is refused."""

import logging

import pytest
import torch
import yaml

from conftest import tiny_network
from rankseg_rma.bundles.open import open_bundle
from rankseg_rma.bundles.write import write_bundle
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import list_cards, load_card
from rankseg_rma.files.weights import find_states, fit_weights
from rankseg_rma.networks import encoder_of, natural_network


@pytest.fixture(scope="module")
def state():
    from monai.networks.nets import UNet

    torch.manual_seed(3)
    return UNet(
        spatial_dims=2, in_channels=3, out_channels=11, channels=(4, 8), strides=(2,), norm="instance"
    ).state_dict()


@pytest.fixture
def open_with(tmp_path, state):
    """Open a bundle of photographs whose model.pt holds the given content."""
    run = tmp_path / "run"
    write_bundle(run, load_card("camvid"), {"training": []}, tiny_network(2), list_cards()["camvid"])

    def open_it(content):
        torch.save(content, run / "models" / "model.pt")
        return open_bundle(run, "cpu")

    return open_it


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "net.", "module._orig_mod.", "_orig_mod.module.net.", "segmenter.unet."]
)
@pytest.mark.parametrize("nest", [(), ("state_dict",), ("model",), ("network",), ("state_dict", "model")])
def test_one_nest_and_one_prefix_explain_all(open_with, state, prefix, nest):
    content = under(prefix, state)
    for name in reversed(nest):
        content = {name: content, "epoch": 7}
    bundle = open_with(content)
    loaded = bundle.network.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    (note,) = bundle.notes
    assert f"the prefix {prefix!r} taken off" in note and (not nest or repr(".".join(nest)) in note)


def test_own_names_need_no_word(open_with, state):
    assert open_with(state).notes == ()


def test_a_prefix_that_the_file_lacks_is_put_on(open_with, state):
    bare = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    assert "the prefix 'model.' put on" in open_with({"state_dict": bare}).notes[0]
    assert open_with(under("module.", bare)).notes[0].endswith("'module.' taken off, with the prefix 'model.' put on")


def test_what_no_rule_explains_is_refused_with_the_difference(open_with, state, caplog):
    content = under("module.", state)
    first, *others = sorted(content)
    content["teacher.weight"] = content.pop(first)
    caplog.set_level(logging.INFO)
    with pytest.raises(DatasetError) as caught:
        open_with(content)
    said = str(caught.value)
    assert f"with the prefix 'module.' taken off, which explains {len(others)} of {len(state)} names" in said
    assert f"missing: {first.removeprefix('module.')}; unknown: teacher.weight" in said and "model.pt" in said


def test_the_log_has_every_name_and_the_message_some(open_with, state, caplog):
    with pytest.raises(DatasetError, match=r"missing: .*, .*, .* and \d+ more; unknown: .* and \d+ more"):
        open_with({f"layer{place}.w": tensor for place, tensor in enumerate(state.values())})
    assert all(name in caplog.text for name in state)
    assert all(f"layer{place}.w" in caplog.text for place in range(len(state)))


def test_half_a_prefix_is_no_rule(open_with, state):
    half = {("module." if place % 2 else "") + name: state[name] for place, name in enumerate(state)}
    with pytest.raises(DatasetError, match="unknown"):
        open_with(half)


def test_tensors_of_other_shapes_are_refused_by_name(open_with, state):
    name = next(iter(state))
    with pytest.raises(DatasetError, match=rf"of another shape: module\.{name} \(2, 2\) for"):
        open_with(under("module.", {**state, name: torch.zeros(2, 2)}))


def test_weights_that_are_not_numbers_are_refused(open_with, state):
    name = next(iter(state))
    with pytest.raises(DatasetError, match=r"NaN in 1 of \d+ tensors.*had diverged"):
        open_with({**state, name: torch.full_like(state[name], torch.nan)})


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {}, {"state_dict": {"epoch": 3}}, torch.zeros(3)])
def test_files_without_named_tensors_are_refused(open_with, content):
    with pytest.raises(DatasetError, match="tensors by their names"):
        open_with(content)


def test_a_pickled_class_is_not_run(open_with):
    with pytest.raises(DatasetError, match="weights must be a readable file"):
        open_with({"state_dict": yaml.YAMLError})


def test_the_nest_that_fits_is_chosen(state):
    other = {"head.weight": torch.zeros(2)}
    content = {"model": other, "network": under("net.", state), "optimizer": {"lr": 0.1}}
    assert [nest for nest, _ in find_states(content)] == ["model", "network"]
    fit = fit_weights(content, state)
    assert not fit.num_faults and fit.rule == "out of the entry 'network', with the prefix 'net.' taken off"


def test_counters_of_batch_norm_may_be_missing():
    norm = torch.nn.BatchNorm2d(2)
    old = {name: tensor for name, tensor in norm.state_dict().items() if "num_batches" not in name}
    assert not fit_weights(under("module.", old), norm.state_dict()).num_faults


@pytest.mark.parametrize(
    ("nest", "prefix"),
    [
        ("state_dict", "_orig_mod.module."),
        ("network", "net."),
        ("model", "network.module.encoder."),
        ("model", "backbone."),
    ],
)
def test_encoders_follow_the_same_rule(tmp_path, prefix, nest):
    import timm

    weights = timm.create_model("resnet18").state_dict()
    torch.save({nest: under(prefix, weights), "epoch": 3}, tmp_path / "weights.pt")
    network = natural_network("unet", "resnet18", 3, 2, str(tmp_path / "weights.pt"))
    loaded = encoder_of(network).state_dict()
    assert torch.equal(loaded["model.layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])
