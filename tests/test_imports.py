"""All third-party packages that each part may import: what is not on its list needs a decision first.

import-linter can say who may import a package, not what a package may import: a library that nobody
has thought of yet would be on no list of its own.
"""

import sys
from functools import cache

import grimp
import pytest

ALLOWED: dict[str, set[str]] = {
    "fleet_shared": {"msgspec", "typing_extensions", "zstandard"},
    "fleet_shared.pixels": {"PIL", "numpy"},
    "fleet_cloud.domain": set(),
    "fleet_cloud.services": {"msgspec"},
    "fleet_cloud.adapters.broker": {"amqtt", "cryptography"},
    "fleet_cloud.adapters.db": {"alembic", "msgspec", "sqlalchemy"},
    "fleet_cloud.adapters.mosquitto": set(),
    "fleet_cloud.adapters.mqtt": {"paho"},
    "fleet_cloud.adapters.oidc": {"jwt"},
    "fleet_cloud.adapters.storage": {"boto3", "botocore", "types_boto3_s3"},
    "fleet_cloud.adapters.trust": {"cryptography", "securesystemslib", "tuf"},
    "fleet_cloud.bootstrap": set(),
    "fleet_cloud.client": {"httpx", "msgspec"},
    "fleet_cloud.local": {"msgspec"},
    "fleet_cloud.settings": set(),
    "fleet_cloud.entrypoints.bundles": {"msgspec"},
    "fleet_cloud.entrypoints.api": {"anyio", "fastapi", "msgspec", "starlette"},
    "fleet_cloud.entrypoints.cli": {"keyring", "msgspec", "rich", "typer"},
    "fleet_cloud.entrypoints.connections": {"uvicorn"},
    "fleet_cloud.entrypoints.demo": {"msgspec", "paho", "typer"},
    "fleet_cloud.entrypoints.mosquitto": set(),
    "fleet_cloud.entrypoints.registration": {"msgspec"},
    "fleet_cloud.entrypoints.serve": {"uvicorn"},
    "fleet_cloud.entrypoints.workers": {"msgspec"},
    "fleet_cloud.factory": {
        "PIL", "ai_edge_litert", "ai_edge_quantizer", "flatbuffers", "keras", "matplotlib", "msgspec",
        "numpy", "optuna", "sklearn", "tensorflow", "yaml",
    },
    "fleet_agent.client": {"msgspec", "numpy", "typing_extensions"},
    "fleet_agent.worker": {"PIL", "cv2", "msgspec", "numpy", "psutil"},
    "fleet_agent.benchmark": {"msgspec"},
    "fleet_agent.runtimes": {
        "ai_edge_litert", "msgspec", "numpy", "onnxruntime", "openvino", "tflite", "tflite_runtime", "tvm",
    },
    "fleet_agent.trust": {
        "cryptography", "msgspec", "securesystemslib", "tuf", "typing_extensions", "urllib3",
    },
    "fleet_agent.bridge": {"msgspec", "paho", "tomli"},
    "fleet_agent.link": {"msgspec", "paho"},
    "fleet_agent.transfer": {"msgspec", "urllib3"},
    "fleet_agent.telemetry": {"psutil"},
    "fleet_agent.update": {"msgspec"},
    "fleet_agent": {"msgspec", "tomli", "typer", "urllib3"},
    "fleet_cloud": set(),
}  # fmt: skip
"""The longest name that fits a module counts."""


@cache
def load_graph() -> grimp.ImportGraph:
    return grimp.build_graph("fleet_shared", "fleet_agent", "fleet_cloud", include_external_packages=True)


def part_of(module: str) -> str:
    fitting = [part for part in ALLOWED if f"{module}.".startswith(f"{part}.")]
    assert fitting, f"{module} belongs to no part"
    return max(fitting, key=len)


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_is_on_its_list(part: str) -> None:
    graph = load_graph()
    found = {
        (module, package)
        for module in graph.modules
        if module.startswith("fleet_") and part_of(module) == part
        for package in graph.find_modules_directly_imported_by(module)
        if not package.startswith("fleet_") and package not in sys.stdlib_module_names
    }
    assert not {(module, package) for module, package in found if package not in ALLOWED[part]}
