"""Readings of boards, from small trees of files as the boards lay them out."""

from pathlib import Path

import pytest

from fleet_agent.telemetry.board import READINGS_MAX, THROTTLED_FILE, name_flags, parse_throttling, read_board

RAIL = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
ORIN = {
    "sys/devices/platform/bus@0/17000000.gpu/load": "437\n",
    f"{RAIL}/in1_label": "VDD_IN\n",
    f"{RAIL}/in1_input": "5040\n",
    f"{RAIL}/curr1_input": "1000\n",
    f"{RAIL}/in2_label": "VDD_CPU_GPU_CV\n",
    f"{RAIL}/in2_input": "5000\n",
    f"{RAIL}/curr2_input": "200\n",
    f"{RAIL}/in4_label": "sum of shunt voltages\n",
    f"{RAIL}/in4_input": "3\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48125\n",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:cool\n",
}
PI = {
    THROTTLED_FILE: "50005\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61300\n",
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_jetson(tmp_path: Path) -> None:
    assert read_board(tree(tmp_path, ORIN)) == {
        "gpu_percent": 43.7,
        "rail_vdd_in_mw": 5040.0,
        "rail_vdd_cpu_gpu_cv_mw": 1000.0,
        "zone_cpu_thermal_c": 48.125,
        "power_mode": 2.0,
    }


def test_a_raspberry_pi_that_lacks_power(tmp_path: Path) -> None:
    found = read_board(tree(tmp_path, PI))
    assert found["zone_cpu_thermal_c"] == 61.3
    assert {name for name, value in found.items() if value == 1.0} == {
        "under_voltage", "throttled", "under_voltage_since_boot", "throttled_since_boot",
    }  # fmt: skip


def test_a_machine_that_is_neither_tells_nothing(tmp_path: Path) -> None:
    assert read_board(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("0\n", 0),
        ("50005", 0x50005),
        ("throttled=0x50005\n", 0x50005),
        ("throttled=0x0", 0),
        ("", None),
        ("error", None),
    ],
)
def test_both_forms_of_the_firmwares_bits(text: str, bits: int | None) -> None:
    assert parse_throttling(text) == bits


@pytest.mark.parametrize(
    ("bits", "flag"),
    [(1 << 0, "under_voltage"), (1 << 1, "frequency_capped"), (1 << 2, "throttled"),
     (1 << 3, "soft_temperature_limit"), (1 << 16, "under_voltage_since_boot"),
     (1 << 17, "frequency_capped_since_boot"), (1 << 18, "throttled_since_boot"),
     (1 << 19, "soft_temperature_limit_since_boot")],
)  # fmt: skip
def test_each_bit_has_its_name(bits: int, flag: str) -> None:
    flags = name_flags(bits)
    assert len(flags) == 8
    assert [name for name, value in flags.items() if value] == [flag]


def test_readings_that_are_nonsense_are_left_out_and_many_are_bounded(tmp_path: Path) -> None:
    files = {f"sys/class/thermal/thermal_zone{n}/type": f"zone {n}" for n in range(50)}
    files |= {f"sys/class/thermal/thermal_zone{n}/temp": "1000" for n in range(50)}
    files |= {"sys/devices/gpu.0/load": "nan", THROTTLED_FILE: "?", "var/lib/nvpmodel/status": "pmode:"}
    found = read_board(tree(tmp_path, files))
    assert len(found) == READINGS_MAX
    assert set(found.values()) == {1.0}
