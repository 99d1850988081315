"""The fitted temperature finds a known one."""

import pytest
import torch

from rankseg_rma.decoder.temperature import fit_temperature


def test_temperature_is_found_again(rng):
    """Labels drawn from softmax(z): logits 1.6 z are over-confident by exactly that factor."""
    z = torch.from_numpy(rng.normal(0, 2, (40_000, 3)))
    labels = torch.multinomial(z.softmax(1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    found = fit_temperature([(1.6 * z[:20_000], labels[:20_000]), (1.6 * z[20_000:], labels[20_000:])])
    assert found["temperature"] == pytest.approx(1.6, abs=0.03)
    assert found["nll_after"] < found["nll_before"]
