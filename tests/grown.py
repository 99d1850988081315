"""The miniature trees, each grown once."""

import shutil

import pytest

import trees

MAKERS = {
    "lits": trees.make_lits, "kits19": trees.make_kits, "kits23": lambda root: trees.make_kits(root, year=23),
    "msd_hippocampus": trees.make_msd, "pascal_voc": trees.make_voc, "cityscapes": trees.make_cityscapes,
    "ade20k": trees.make_ade20k, "camvid": trees.make_camvid,
}  # fmt: skip


@pytest.fixture(scope="session")
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
