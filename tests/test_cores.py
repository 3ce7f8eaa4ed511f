"""Threads of torch are given back, whatever changed their number."""

from __future__ import annotations

import os

import pytest
import torch

from mser.cores import torch_threads, usable_cores


@pytest.mark.parametrize("count", [None, 1, 3])
def test_the_number_of_threads_is_set_and_given_back_after_an_error_too(count: int | None) -> None:
    before = torch.get_num_threads()
    with torch_threads(count):
        assert torch.get_num_threads() == (count or before)
        torch.set_num_threads(5)
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), torch_threads(2):
        torch.set_num_threads(1 // 0)
    assert torch.get_num_threads() == before


def test_only_the_cores_this_process_may_use_count() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
