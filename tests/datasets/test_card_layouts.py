"""A card may name exactly the layouts that the readers read, of its own kind."""

import pytest
import yaml

from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import list_cards, load_card
from rankseg_rma.datasets.image_layouts import IMAGE_LAYOUTS
from rankseg_rma.datasets.readers import LAYOUTS
from rankseg_rma.datasets.volume_layouts import VOLUME_LAYOUTS


def card_with(layout, shipped, folder):
    content = yaml.safe_load(list_cards()[shipped].read_text()) | {"name": "mine", "layout": layout}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("shipped", "layouts", "others"),
    [("kits19", VOLUME_LAYOUTS, IMAGE_LAYOUTS), ("camvid", IMAGE_LAYOUTS, VOLUME_LAYOUTS)],
    ids=["volumes", "images"],
)
def test_what_is_read_may_be_named(shipped, layouts, others, tmp_path):
    for layout, read in layouts.items():
        assert load_card(card_with(layout, shipped, tmp_path)).layout == layout
        assert LAYOUTS[layout] is read
    for layout in [*others, "dicom"]:
        with pytest.raises(DatasetError, match=f"layout must be one of {', '.join(layouts)}; got '{layout}'"):
            load_card(card_with(layout, shipped, tmp_path))


def test_no_layout_stands_for_two_kinds():
    assert len(LAYOUTS) == len(VOLUME_LAYOUTS) + len(IMAGE_LAYOUTS)


def test_every_function_of_a_layout_is_in_the_table():
    from rankseg_rma.datasets import image_layouts, volume_layouts

    written = {
        value
        for module in (volume_layouts, image_layouts)
        for name, value in vars(module).items()
        if name.startswith("read_") and value.__module__ == module.__name__
    }
    assert written == set(LAYOUTS.values())
