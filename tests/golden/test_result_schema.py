"""Result documents, expected and real ones, against docs/result-schema.json."""
import copy
import json

import jsonschema
import pytest
from conftest import ROOT

SCHEMA = json.loads((ROOT / "docs" / "result-schema.json").read_text())
GOLDEN = sorted((ROOT / "tests" / "golden" / "result").glob("*.json"))


def errors(document):
    return [f"{'/'.join(map(str, e.path))}: {e.message}" for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert len(GOLDEN) >= 2


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_expected_documents(path):
    assert errors(json.loads(path.read_text())) == []


def test_a_real_run(lem):
    assert errors(lem.experiment()) == []


def put(document, path, value):
    *parents, last = path.split("/")
    for key in parents:
        document = document[int(key) if isinstance(document, list) else key]
    document[last] = value


@pytest.mark.parametrize("path, value", [
    ("energy/gpu_j", {"value": 0}),  # a figure without an interval
    ("energy/cpu_j", {"value": None}),  # nothing, and no reason
    ("energy/cpu_j", {"value": None, "reason": ""}),
    ("energy/cpu_j", {"value": 1, "low": 1, "high": 1, "method": "m", "reason": "r"}),
    ("latency/ttft_ms", {"n": 0}),
    ("status", "done"),
    ("verdict/level", "ok"),
    ("model/weights", "random"),
    ("model/parameters", 0),  # not known is null
    ("tokens/input", -1),
    ("gpus/0/extra", 1),
    ("run_id", "../evil"),
    ("started", "yesterday"),
    ("surprise", 1),
    ("slo", None),  # no goals is an object with the reason
    ("slo", {"limits": None}),
    ("slo/limits/ttft_ms", 0),  # nobody wrote it: null
    ("slo/good", -1),
    ("slo/share", 0.5),
])
def test_the_schema_refuses(path, value):
    document = json.loads((ROOT / "tests/golden/result/rich.json").read_text())
    assert errors(document) == []
    wrong = copy.deepcopy(document)
    put(wrong, path, value)
    assert errors(wrong)


def test_every_field_is_required():
    document = json.loads((ROOT / "tests/golden/result/rich.json").read_text())
    for key in document:
        assert errors({k: v for k, v in document.items() if k != key}), key
