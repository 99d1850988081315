"""Labels that an output dtype, or a number of channels, cannot hold are refused, not wrapped."""

import numpy as np
import pytest
import torch

from rankseg_rma import AsDiscreteRMA, AsDiscreteRMAd


def one_voxel_per_class(num_classes):
    return torch.eye(num_classes)[:, None]


@pytest.mark.parametrize(
    ("num_classes", "dtype", "fitting"),
    [
        (400, torch.uint8, "torch.int16"), (400, np.uint8, "torch.int16"), (400, "uint8", "torch.int16"),
        (257, torch.uint8, "torch.int16"), (129, torch.int8, "torch.uint8"), (3, torch.bool, "torch.uint8"),
        (260, torch.bfloat16, "torch.int16"), (2051, torch.float16, "torch.int16"), (32769, torch.int16, "torch.int32"),
    ],
)  # fmt: skip
def test_labels_beyond_the_dtype_are_refused(num_classes, dtype, fitting):
    transform = AsDiscreteRMA(dtype=dtype)
    probs = torch.zeros(num_classes, 1, 2)
    probs[num_classes - 1] = 1
    expected = f"dtype must be one that holds the labels 0 to {num_classes - 1}, as {fitting}"
    with pytest.raises(ValueError, match=expected):
        transform(probs)


@pytest.mark.parametrize(
    ("num_classes", "dtype"),
    [
        (400, torch.int16), (400, torch.float32), (400, None), (256, torch.uint8), (128, torch.int8), (2, torch.bool),
        (1, torch.bool), (2049, torch.float16), (257, torch.bfloat16),
    ],
)  # fmt: skip
def test_labels_within_the_dtype_are_kept(num_classes, dtype):
    labels = AsDiscreteRMA(dtype=dtype)(one_voxel_per_class(num_classes))
    expected = np.arange(num_classes) if num_classes > 1 else np.ones(1)
    np.testing.assert_array_equal(labels.flatten().double().numpy(), expected)


def test_the_inputs_own_dtype_may_be_too_small():
    with pytest.raises(ValueError, match="0 to 399, as torch.int16; got torch.bfloat16"):
        AsDiscreteRMA(dtype=None)(one_voxel_per_class(400).bfloat16())


def test_void_needs_room_too():
    for dtype in (torch.int8, torch.bool):
        with pytest.raises(ValueError, match="holds the labels 0 to 255, as torch.uint8"):
            AsDiscreteRMA(unassigned="void", dtype=dtype)
    with pytest.raises(ValueError, match="holds the labels 0 to 1000, as torch.int16"):
        AsDiscreteRMA(unassigned="void", void_index=1000, dtype=torch.uint8)
    probs = torch.tensor([[0.0, 0.6], [1.0, 0.4]])
    found = AsDiscreteRMA(unassigned="void", pruning_prob=1, void_index=127, dtype=torch.int8)(probs)
    assert found.max() == 127
    # Masks and one-hot channels hold no label at all.
    AsDiscreteRMA(unassigned="void", dtype=torch.int8, to_onehot=2)(probs)
    AsDiscreteRMA(unassigned="void", dtype=torch.bool, multilabel=True)(probs)


def test_one_hot_has_a_channel_for_every_class():
    with pytest.raises(ValueError, match="to_onehot must be at least 3, the number of classes; got 2"):
        AsDiscreteRMA(to_onehot=2)(one_voxel_per_class(3))
    with pytest.raises(ValueError, match="to_onehot must be at least 2"):
        AsDiscreteRMA(to_onehot=1)
    assert AsDiscreteRMA(to_onehot=4)(one_voxel_per_class(3)).shape == (4, 1, 3)
    hot = AsDiscreteRMA(to_onehot=400, dtype=torch.uint8)(one_voxel_per_class(400))
    assert torch.equal(hot[:, 0].float(), torch.eye(400))


def test_a_label_beside_the_prediction_is_not_wrapped_either():
    transform = AsDiscreteRMAd(["pred", "label"], argmax=[True, False], dtype=[torch.int16, torch.uint8])
    item = {"pred": one_voxel_per_class(3), "label": torch.tensor([[[0.0, 399.0]]])}
    with pytest.raises(ValueError, match="AsDiscreteRMAd: dtype must be one that holds the labels 0 to 399"):
        transform(item)
    assert transform({**item, "label": torch.tensor([[[0.0, 255.0]]])})["label"].max() == 255


def test_labels_that_are_not_decoded_are_finite():
    with pytest.raises(ValueError, match="label must be labels, as it is not decoded; got NaN or infinite"):
        AsDiscreteRMAd(keys=["pred", "label"], argmax=[True, False])(
            {"pred": torch.tensor([[0.2, 0.9], [0.8, 0.1]]), "label": torch.tensor([[0.0, float("nan")]])}
        )
