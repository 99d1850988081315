"""The decoder inside of torch.compile, inference mode and torch.func."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import random_probs
from rankseg_rma import AsDiscreteRMA, AsDiscreteRMAd, RMADecoder, ScaleTemperature, expected_score, rankseg_rma

CALLS = {
    "rankseg_rma": lambda probs: rankseg_rma(probs[None])[0] + 1,
    "expected_score": lambda probs: expected_score(probs, probs.argmax(0)),
    "RMADecoder": lambda probs: RMADecoder(backend="torch")(probs).labels + 1,
    "AsDiscreteRMA": lambda probs: AsDiscreteRMA()(probs),
    "AsDiscreteRMAd": lambda probs: AsDiscreteRMAd("pred")({"pred": probs})["pred"],
    "ScaleTemperature": lambda probs: ScaleTemperature(0.5)(probs),
}


@pytest.fixture
def probs(rng):
    return torch.from_numpy(random_probs(rng, 3, (6, 7, 5)))


def same(call, compiled, probs):
    expected, found = call(probs * 1.0), compiled(probs)
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=1e-6)
    assert type(found) is type(expected)


@pytest.mark.parametrize("name", [*CALLS])
def test_compiled_is_as_called(probs, name):
    torch._dynamo.reset()
    call = CALLS[name]
    compiled = torch.compile(lambda given: call(given * 1.0), backend="eager")
    same(call, compiled, probs)
    with torch.inference_mode():
        same(call, compiled, probs)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler, g++")
def test_compiled_by_inductor_is_as_called(probs):
    torch._dynamo.reset()
    call = CALLS["rankseg_rma"]
    compiled = torch.compile(lambda given: call(given * 1.0), backend="inductor")
    same(call, compiled, probs)
    transform = torch.compile(lambda given: AsDiscreteRMA()(given * 1.0), backend="inductor")
    same(CALLS["AsDiscreteRMA"], transform, probs)


@pytest.mark.parametrize("name", [*CALLS])
def test_inference_mode_and_gradients_change_nothing(probs, name):
    call = CALLS[name]
    expected = torch.as_tensor(call(probs)).clone()
    with torch.inference_mode():
        assert torch.equal(torch.as_tensor(call(probs * 1.0)), expected)
    with torch.enable_grad():
        assert torch.equal(torch.as_tensor(call(probs.clone().requires_grad_())).detach(), expected)


@pytest.mark.parametrize("name", [*CALLS])
def test_tensors_without_values_are_refused(probs, name):
    with pytest.raises(TypeError, match="holds values; got a tensor without storage.*outside of torch.func"):
        torch.func.vmap(CALLS[name])(probs[None])
    for empty in (probs.to("meta"), probs.to_sparse()):
        with pytest.raises(TypeError, match="must be a dense tensor that holds values"):
            RMADecoder()(empty)


def test_decoding_loads_neither_torch_nor_its_compiler():
    code = (
        "import sys, numpy as np\nfrom rankseg_rma import RMADecoder\n"
        "RMADecoder()(np.array([[0.9, 0.1], [0.1, 0.9]]))\nassert 'torch' not in sys.modules\n"
        "import torch\nRMADecoder()(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))\nassert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_batch_is_not_one_case(rng, backend, kind):
    batch = kind(random_probs(rng, 3, (4, 5, 6))[None])
    for call in (RMADecoder(backend=backend), AsDiscreteRMA(backend=backend)):
        with pytest.raises(ValueError, match=r"at most 3 spatial axes; got \(1, 3, 4, 5, 6\). Decollate a batch"):
            call(batch)
    with pytest.raises(ValueError, match="at most 3 spatial axes"):
        expected_score(batch, batch[0].argmax(0), backend=backend)
    with pytest.raises(ValueError, match="at most 3 spatial axes"):
        rankseg_rma(batch, in_batch=False)
    with pytest.raises(ValueError, match="at most 3 spatial axes"):
        rankseg_rma(batch[None])
    if isinstance(batch, torch.Tensor):
        with pytest.raises(ValueError, match=r"ScaleTemperature: img must be .* at most 3 spatial axes"):
            ScaleTemperature(0.5)(batch)
    assert rankseg_rma(batch).shape == (1, 4, 5, 6)
