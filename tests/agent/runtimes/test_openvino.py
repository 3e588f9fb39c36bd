"""On which processors OpenVINO's integer kernels are left alone."""

from pathlib import Path

import pytest

from fleet_agent.runtimes.openvino import sums_saturate


@pytest.mark.parametrize(
    ("machine", "flags", "saturate"),
    [
        ("x86_64", "flags : fpu sse4_2 avx avx2 fma", True),
        ("AMD64", "flags : fpu avx2", True),
        ("x86_64", "flags : avx2 avx512f avx512bw", True),
        ("x86_64", "flags : avx2 avx_vnni", False),
        ("x86_64", "flags : avx512f avx512_vnni", False),
        ("aarch64", "Features : fp asimd", False),
    ],
)
def test_whose_sums_of_products_run_over(tmp_path: Path, machine: str, flags: str, saturate: bool) -> None:
    (tmp_path / "cpuinfo").write_text(flags)
    assert sums_saturate(machine, tmp_path / "cpuinfo") is saturate


def test_a_processor_that_cannot_be_read_counts_as_one_that_saturates(tmp_path: Path) -> None:
    assert sums_saturate("x86_64", tmp_path / "missing")
