"""The devices that tests run on: the CPU, and a GPU where there is one."""

import pytest
import torch

NEEDS_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
CPU_AND_GPU = ("cpu", pytest.param("cuda", marks=NEEDS_GPU))
