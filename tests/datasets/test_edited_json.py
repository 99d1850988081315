"""JSON that an editor saved in another encoding: read where it can be, or named with its path."""

import json

import pytest

from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets import list_cases, load_card, read_part
from rankseg_rma.datasets.datalist import choose_part

CONTENT = json.dumps({"validation": [], "test": [{"image": "Müller.png", "label": "m.png"}]}, ensure_ascii=False)


@pytest.mark.parametrize("read", [lambda path: read_part(path, "test"), lambda path: choose_part(path, None)[1]])
def test_data_lists(tmp_path, read):
    path = tmp_path / "datalist.json"
    path.write_text(CONTENT, encoding="latin-1")
    with pytest.raises(DatasetError, match="a JSON mapping of lists; got UnicodeDecodeError") as caught:
        read(path)
    assert str(path) in str(caught.value)
    path.write_text(CONTENT, encoding="utf-8-sig")
    assert [entry["case_id"] for entry in read(path)] == ["Müller.png"]
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(DatasetError, match="a JSON mapping of lists; got list"):
        read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="datalist.json"):
        read(path)


def test_prepared_folders(tmp_path):
    path, gone = tmp_path / "prepared.json", tmp_path / "Müller"
    content = json.dumps({"source": str(gone)}, ensure_ascii=False)
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DatasetError, match="JSON with a source; got UnicodeDecodeError"):
        list_cases(load_card("pascal_voc"), tmp_path)
    path.write_text(content, encoding="utf-8-sig")
    with pytest.raises(DatasetError, match="Müller.*Was it moved"):
        list_cases(load_card("pascal_voc"), tmp_path)
