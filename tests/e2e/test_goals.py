"""Goals, and judging a stored run by others: on a scripted server, on a worker, on runs that failed."""
import csv
import io
import json
import resource
import subprocess

import jsonschema
import pytest
from conftest import ROOT
from openai_fake import Fake
from test_http import FAULTY, WARM, engine, openai, rows

SCHEMA = json.loads((ROOT / "docs" / "result-schema.json").read_text())
GENEROUS = "slo={ttft_ms: 60000, tpot_ms: 60000, e2e_ms: 60000}"


def shown(lem, *args, check=0, run="last"):
    return json.loads(lem("results", "show", run, "--json", *args, check=check).stdout)


def good(lem, run, goals):
    s = shown(lem, "--slo", goals, run=run)["slo"]
    assert s["limits_from"] == "command_line"
    return s["good"]


def test_goals_of_the_config_are_judged(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 2) as f:
        r = lem.experiment("--set", "slo={ttft_ms: 60000, e2e_ms: 3}", text=openai(f.port))
    s = r["slo"]
    assert s["limits"] == {"ttft_ms": 60000, "tpot_ms": None, "e2e_ms": 3} and s["limits_from"] == "run"
    assert s["judged"] == 8 and s["good"] == 0 and s["missed"] == {"ttft": 0, "tpot": 0, "e2e": 8, "failed": 0, "untold": 0}
    assert s["share"]["value"] == 0 and s["share"]["high"] < 0.5 and s["goodput_requests_per_s"]["value"] == 0
    assert s["j_per_good_request"]["value"] is None and s["j_per_good_request"]["reason"]
    assert s["met_by_99_percent"]["e2e_ms"] >= 22
    text = lem("results", "show", "last", check=0).stdout
    assert "Goals\n" in text and "0 of 8 requests, 0.0 %" in text and "at most 3 ms: 8 missed it" in text


def test_without_goals_there_is_the_reason(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment(text=openai(f.port))
    assert r["slo"]["limits"] is None and "slo.ttft_ms" in r["slo"]["reason"]
    assert "Goals" not in lem("results", "show", "last", check=0).stdout


def test_a_stored_run_is_judged_anew(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 3) as f:
        r = lem.experiment("--set", GENEROUS, text=openai(f.port))
    document = lem.folder / "results" / f"{r['run_id']}.json"
    before = document.read_bytes(), (lem.folder / "results" / "lem.sqlite").read_bytes()
    assert r["slo"]["good"] == 8
    assert good(lem, "last", "e2e=1") == 0 and good(lem, "last", "e2e=60000,tpot=60000") == 8 and good(lem, "last", "tpot=0.001") == 0
    # the latencies of the export are those that are judged: any limit between two of them parts the requests there
    e2e = sorted(x["e2e_from_schedule_ms"] for x in rows(lem))
    for k in range(8):
        assert good(lem, "last", f"e2e={e2e[k]:.6f}") == sum(x <= float(f"{e2e[k]:.6f}") for x in e2e)
    assert (document.read_bytes(), (lem.folder / "results" / "lem.sqlite").read_bytes()) == before
    assert shown(lem) == r
    done = lem("results", "show", "last", "--slo", "ttft=60000,e2e=1", check=0)
    assert "Goals, given now" in done.stdout and done.stderr == "", "other goals are no older document"
    again = shown(lem, "--slo", "ttft=60000")
    assert {k: v for k, v in again.items() if k != "slo"} == {k: v for k, v in r.items() if k != "slo"}
    assert [e.message for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(again)] == []


@pytest.mark.parametrize("goals, message", [("", "is not NAME=MS"), ("ttft", "is not NAME=MS"), ("itl=5", "knows no 'itl'"), ("ttft=0", "'0' is no time"),
                                            ("ttft=-3", "'-3'"), ("e2e=5s", "the unit is always ms"), ("tpot=1,tpot=2", "gives tpot twice"),
                                            ("ttft=nan", "'nan'"), ("ttft=1,", "is not NAME=MS")])
def test_goals_that_are_none(lem, goals, message):
    done = lem("results", "show", "last", "--slo", goals, check=2)
    assert message in done.stderr and "hint:" in done.stderr and "ttft=200,tpot=50,e2e=5000" in done.stderr
    document = json.loads(lem("results", "show", "last", "--json", "--slo", goals, check=2).stdout)
    assert document["error"]["code"] == "usage"


def test_only_what_judges_takes_goals(lem):
    assert "takes no --slo" in lem("results", "list", "--slo", "ttft=1", check=2).stderr


def test_failed_requests_are_not_good(lem, tmp_path):
    with Fake(tmp_path, "--fault", "429", "--every", 4, *FAULTY) as f:
        lem("experiment", lem.config(openai(f.port)), *WARM, "--set", GENEROUS, check=4)
    s = shown(lem)["slo"]
    assert s["judged"] == 8 and s["good"] == 6 and s["missed"] == {"ttft": 0, "tpot": 0, "e2e": 0, "failed": 2, "untold": 0}
    assert s["met_by_99_percent"] == {"ttft_ms": None, "tpot_ms": None, "e2e_ms": None}
    text = lem("results", "show", "last", check=0).stdout
    assert "2 were not answered" in text and "more than 1 % have no answer" in text
    assert [x["good"] for x in rows(lem)].count(False) == 2
    assert {x["failure"] for x in rows(lem) if not x["good"]} == {"http_429"}


def test_counts_that_are_not_told_are_not_known_to_be_good(lem, tmp_path):
    with Fake(tmp_path, "--dialect", "bare") as f:
        lem("experiment", lem.config(openai(f.port)), "--set", "slo={tpot_ms: 60000}", check=4)
    assert shown(lem)["slo"]["missed"]["untold"] == 8 and shown(lem)["slo"]["good"] == 0
    assert good(lem, "last", "ttft=60000") == 8


def test_by_traffic_from_the_schedule(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 5) as f:
        r = lem.experiment("--set", "traffic={arrival: constant, rate: 40, duration_sec: 1.5, ramp_sec: 0.5}", "--set", GENEROUS, text=openai(f.port))
    s, q = r["slo"], rows(lem)
    assert s["judged"] == s["good"] == 40 and s["goodput_requests_per_s"]["value"] == pytest.approx(40)
    assert s["good_output_tokens_per_s"]["value"] == pytest.approx(480)
    assert sum(x["uncounted"] for x in q) == 20 and all((x["good"] is None) == x["uncounted"] for x in q)
    for x in q:
        assert x["ttft_from_schedule_ms"] == pytest.approx((x["first_token_ns"] - x["scheduled_ns"]) / 1e6)
        assert x["ttft_from_schedule_ms"] >= x["ttft_ms"]


def test_what_was_due_and_never_sent_is_not_good(lem, tmp_path):
    """Four connections and a server that holds each for two seconds: most requests of the schedule find none."""
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (68, 68))
    with Fake(tmp_path, "--token-ms", 150) as f:
        config = lem.config(openai(f.port))
        done = subprocess.run([lem.program, "experiment", str(config), "--json", *WARM, "--set", GENEROUS, "--set",
                               "traffic={arrival: constant, rate: 20, duration_sec: 1}"], cwd=lem.folder, text=True, capture_output=True, preexec_fn=few)
    assert done.returncode == 4, done.stderr
    r = json.loads(done.stdout)
    unsent = r["client"]["failures"]["not_sent"]
    assert unsent > 10 and r["window"]["requests_asked"] == 20 == r["slo"]["judged"]
    assert r["slo"]["missed"]["failed"] == unsent and r["slo"]["good"] == 20 - unsent == r["window"]["requests"]


def test_the_export_tells_all(lem, tmp_path):
    with Fake(tmp_path, "--per-chunk", 3, "--fault", "cached", *FAULTY) as f:
        lem("experiment", lem.config(openai(f.port)), *WARM)
    whole = rows(lem)
    table = list(csv.DictReader(io.StringIO(lem("results", "export", "last", "--slo", "ttft=60000", check=0).stdout)))
    assert [x["chunks"] for x in whole] == [4] * 8 and [x["cached_tokens"] for x in whole] == [31] * 8
    assert [x["good"] for x in whole] == [None] * 8, "there are no goals"
    for x, cells in zip(whole, table):
        assert x["uncounted"] is False and cells["uncounted"] == "0" and x["failure"] is None and cells["failure"] == ""
        assert cells["good"] == "1" and cells["chunks"] == "4" and cells["cached_tokens"] == "31"
        assert x["tpot_ms"] == pytest.approx((x["last_token_ns"] - x["first_token_ns"]) / 1e6 / 11) == pytest.approx(float(cells["tpot_ms"]), abs=1e-5)
        assert set(x) - {"text"} == set(cells)


def test_each_load_has_its_goodput(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 1) as f:
        args = ("--set", "traffic={arrival: constant, rates: [20, 40], duration_sec: 1, settle_sec: 0}", "--set", GENEROUS)
        done = lem("experiment", lem.config(openai(f.port)), *args, check=0)
        levels = json.loads(lem("experiment", lem.config(openai(f.port)), *args, "--json", check=0).stdout)["levels"]
    assert [r["slo"]["good"] for r in levels] == [20, 40]
    assert [r["slo"]["goodput_requests_per_s"]["value"] for r in levels] == pytest.approx([20, 40])
    rows = [line for line in done.stdout.splitlines() if line.startswith(("20 requests/s", "40 requests/s"))]
    assert "good" in done.stdout.splitlines()[0].split() and [line.split()[4] for line in rows] == ["20.0", "40.0"]


# ---- a worker, and runs that failed ----

def test_a_worker_is_judged_too(lem):
    r = lem.experiment("--set", GENEROUS)
    assert r["slo"]["judged"] == r["slo"]["good"] == r["window"]["requests"] == 8
    assert r["slo"]["goodput_requests_per_s"]["value"] == pytest.approx(r["throughput"]["requests_per_s"]["value"])
    assert r["slo"]["good_output_tokens_per_s"]["value"] == pytest.approx(r["throughput"]["output_tokens_per_s"]["value"])
    # two batches of four: what waited for the first batch has waited
    first = max(x["e2e_from_schedule_ms"] for x in rows(lem) if x["prompt"] < 4)
    assert good(lem, "last", f"e2e={first + 0.001}") == 4
    assert all(x["chunks"] is None and x["cached_tokens"] is None and x["good"] for x in rows(lem))


def test_energy_of_good_requests(lem):
    r = lem.experiment("--set", "slo={ttft_ms: 60000}", "--set", "energy.estimate_watts_per_core=10", "--set", "window.min_duration_sec=1")
    s = r["slo"]
    if r["efficiency"]["j_per_request"]["value"] is None:
        pytest.fail(r["efficiency"]["j_per_request"]["reason"])
    assert s["j_per_good_request"]["value"] == pytest.approx(r["efficiency"]["j_per_request"]["value"])
    assert s["j_per_good_output_token"]["value"] == pytest.approx(r["efficiency"]["j_per_output_token"]["value"])


def test_a_run_that_died_in_its_window(lem):
    env, text = engine(lem)
    lem("experiment", lem.config(text), *WARM, "--set", "window.min_duration_sec=30", "--set", GENEROUS,
        env={**env, "FAKE_FAULT": "die-mid", "FAKE_AFTER": "45"}, check=1)
    r = shown(lem)
    assert r["status"] == "failed" and r["slo"]["good"] == r["window"]["requests"] >= 32
    assert r["slo"]["judged"] == r["window"]["requests_asked"] == r["slo"]["good"] + r["slo"]["missed"]["failed"]
    assert "Goals" in lem("results", "show", "last", check=0).stdout


def test_a_run_that_never_measured(lem):
    env, text = engine(lem)
    lem("experiment", lem.config(text), "--set", GENEROUS, env={**env, "FAKE_FAULT": "die-at-start"}, check=1)
    for r in (shown(lem), shown(lem, "--slo", "ttft=5")):
        assert r["slo"]["judged"] == r["slo"]["good"] == 0 and r["slo"]["share"]["value"] is None and r["slo"]["share"]["reason"]
        assert [e.message for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(r)] == []
    assert rows(lem) == []
