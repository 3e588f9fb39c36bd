"""What a person sees of bad settings, tokens and defects: one line, a hint, no secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.entrypoints.cli import run

RUN = [sys.executable, "-c", "from fleet_cloud.entrypoints.cli import main; main()"]


def fleet(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    return subprocess.run(
        [*RUN, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "FLEET_DATA": str(folder), "HOME": str(folder), **environment},
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--port", "99999"), "settings.invalid"),
        (("--broker-port", "70000"), "settings.invalid"),
        (("--broker", "mqtt://u:hu[sh@h:99999"), "settings.invalid"),
        (("--database", "mysql://u:hush@h/x"), "database.url"),
        (("--database", "postgresql://u:hu/sh@h:abc/x"), "database.url"),
        (("--blobs", "gs://u:hush@bucket"), "settings.invalid"),
        (("--port", "0", "--blobs", "s3://b?endpoint=http://127.0.0.1:1"), "storage.denied"),
    ],
)
def test_bad_settings_are_no_defect(tmp_path: Path, words: tuple[str, ...], code: str) -> None:
    done = fleet("serve", *words, folder=tmp_path, AWS_EC2_METADATA_DISABLED="true")
    assert done.returncode == 1
    assert f"error[{code}]" in done.stderr
    assert "hint:" in done.stderr
    assert "hu" not in done.stderr.replace("should", "")


def test_a_lost_key_stops_the_controller(tmp_path: Path) -> None:

    ControllerTrust(tmp_path / "trust")
    (tmp_path / "trust" / "keys" / "targets.pem").unlink()
    done = fleet("serve", "--port", "0", "--broker-port", "0", folder=tmp_path)
    assert "error[trust.keys]" in done.stderr
    assert "backup" in done.stderr


def test_a_token_with_a_line_end_is_not_printed(tmp_path: Path) -> None:
    done = fleet("status", folder=tmp_path, FLEET_TOKEN="hush\r")
    assert done.returncode == 1
    assert "error[api.token]" in done.stderr
    assert "hush" not in done.stderr


def test_the_configuration_is_shown_without_secrets_and_stray_variables_warn_once(tmp_path: Path) -> None:
    done = fleet(
        "config", "show", folder=tmp_path,
        FLEET_DATABASE="postgresql://u:hu/sh#?@h/x?sslpassword=hush",
        FLEET_BROKER="mqtt://u:hu[sh@h",
        FLEET_SERVICE_HOST="10.0.0.1",
        FLEET_PORT="tcp://10.0.0.1:8470",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "hu" not in done.stdout
    assert done.stderr.count("FLEET_SERVICE_HOST") == 1
    assert "8470" in done.stdout


def test_a_defect_is_reported_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ValueError("hush")

    monkeypatch.setattr(run, "app", broken)
    with pytest.raises(SystemExit) as caught:
        run.main()
    assert caught.value.code == 1
    shown = capsys.readouterr().err
    assert "error[internal]" in shown
    assert "ValueError" in shown
    assert "hush" not in shown
    file = Path(next(word for word in shown.replace(",", " ").split() if "fleet-error-" in word))
    assert "hush" in file.read_text()
    file.unlink()
