"""Dagster accepts the instances in deploy/, and the launchers in them accept their config. Nothing is launched here."""

import importlib

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config_schema

from backfill_assets_tests.support import PROJECT

DEPLOY = PROJECT / "deploy"


@pytest.mark.parametrize("name", ["celery", "docker", "kubernetes"])
def test_dagster_accepts_the_instance_and_its_launcher(name, monkeypatch):
    for variable in ("CELERY_BROKER_URL", "BACKFILL_IMAGE", "BACKFILL_NAMESPACE"):
        monkeypatch.setenv(variable, "something")
    instance = yaml.safe_load((DEPLOY / name / "dagster.yaml").read_text(encoding="utf-8"))
    checked = process_config(dagster_instance_config_schema(), instance)
    assert checked.success, checked.errors

    launcher = instance["run_launcher"]
    pytest.importorskip(launcher["module"].partition(".")[0], reason="the extra `celery` is not installed")
    schema = getattr(importlib.import_module(launcher["module"]), launcher["class"]).config_type()
    checked = process_config(resolve_to_config_type(schema), launcher["config"])
    assert checked.success, checked.errors


def test_a_worker_takes_its_settings_from_its_file(monkeypatch):
    cli = pytest.importorskip("dagster_celery.cli", reason="the extra `celery` is not installed")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
    settings = cli.get_validated_config(str(DEPLOY / "celery" / "celery.yaml"))
    assert settings["broker"] == settings["backend"] == "redis://127.0.0.1:6379/0"
    assert settings["config_source"]["task_acks_late"]
