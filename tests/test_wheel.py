"""The wheel holds what the package reads."""

import subprocess
import sys

from conftest import REPOSITORY


def test_wheel_ships_configs_cards_and_weights(tmp_path):
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=REPOSITORY, check=True
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for name in ("configs/train.yaml", "configs/metadata.json", "configs/networks/unet3d.yaml", "datasets/phantom.yaml",
                 "datasets/cards.py", "demo_bundle/models/model.pt", "report/templates/page.html"):  # fmt: skip
        assert f"rankseg_rma/{name}" in names, name
    assert (
        "rankseg_rma/configs/image/train.yaml" in names and "rankseg_rma/configs/recipes/camvid_segresnet.yaml" in names
    )
    assert not [name for name in names if name.split("/")[0] == "tests" or name.split("/")[-1].startswith("test_")]
