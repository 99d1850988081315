"""Bundles of a network that is one layer, whose weights are written down."""

import torch
import yaml

CONFIG = {
    "imports": ["$import torch", "$import rankseg_rma"],
    "label_names": ["nothing", "thing"],
    "device": "$torch.device('cpu')",
    "network": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1},
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True, "image_only": True}],
    },
    "inferer": {"_target_": "SimpleInferer"},
}
PHOTOGRAPHS = CONFIG | {
    "kind": "image",
    "label_names": ["red", "green", "blue"],
    "network": {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 3, "kernel_size": 1},
    "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "EnsureTyped", "keys": "image"}]},
    "inferer": {"_target_": "rankseg_rma.MultiScaleInferer", "roi_size": [4, 4]},
}


def write_network(root, config, weight, bias=None):
    """A finished bundle; ``weight`` (class, channel, 1, 1, ...) and ``bias`` (class,), by default 0."""
    for name in ("configs", "models"):
        (root / name).mkdir(parents=True)
    (root / "configs" / "inference.yaml").write_text(yaml.safe_dump(config))
    state = {"weight": weight, "bias": torch.zeros(len(weight)) if bias is None else bias}
    torch.save(state, root / "models" / "model.pt")
    return root
