"""Files in `deploy/` against KServe's classes and the command `serve`."""

import re
from pathlib import Path

import pytest
import typer.main
import yaml
from kserve import models as kserve_models
from kubernetes.client import models as kubernetes_models

from keras_cascade.cli.main import app

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_every_folder_is_in_the_table():
    table = (DEPLOY / "README.md").read_text()
    for folder in DEPLOY.iterdir():
        if folder.is_dir():
            assert f"`{folder.name}/`" in table


@pytest.mark.parametrize("name", ["tensorflow.yaml", "keras-cascade.yaml"])
def test_every_field_is_one_of_kserve(name):
    (service,) = yaml.safe_load_all((DEPLOY / "kserve" / name).read_text())
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    unknown = list(unknown_fields(service, "V1beta1InferenceService"))
    assert not unknown
    service["spec"]["predictor"]["scaleTargets"] = 8
    assert list(unknown_fields(service, "V1beta1InferenceService")) == [
        "V1beta1PredictorSpec.scaleTargets"
    ]


def unknown_fields(value, kind):
    """Fields of a document that the named class does not have."""
    listed = re.fullmatch(r"list\[(\w+)\]", kind)
    if listed:
        for one in value:
            yield from unknown_fields(one, listed[1])
        return
    modelled = getattr(kserve_models, kind, None) or getattr(
        kubernetes_models, kind, None
    )
    if modelled is None or not isinstance(value, dict):
        return
    names = {json: name for name, json in modelled.attribute_map.items()}
    for json, inner in value.items():
        if json not in names:
            yield f"{kind}.{json}"
        else:
            yield from unknown_fields(
                inner, modelled.openapi_types[names[json]]
            )


@pytest.mark.parametrize(
    "file", ["systemd/keras-cascade.service", "kserve/keras-cascade.yaml"]
)
def test_every_option_is_one_of_serve(file):
    command = typer.main.get_command(app).commands["serve"]
    known = {name for parameter in command.params for name in parameter.opts}
    used = set(re.findall(r"--[a-z][a-z-]+", command_lines(file)))
    assert {"--host", "--port", "--token-file"} <= used <= known


def command_lines(file):
    text = (DEPLOY / file).read_text()
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith("#"))


def test_tensorflow_serving_mounts_the_teacher():
    compose = yaml.safe_load(
        (DEPLOY / "tensorflow-serving" / "compose.yaml").read_text()
    )
    service = compose["services"]["teacher"]
    served = service["volumes"][0].rsplit(":", 2)
    assert served[0].endswith("/teacher")
    assert f"--model_base_path={served[1]}" in service["command"]
    assert "--model_name=teacher" in service["command"]
