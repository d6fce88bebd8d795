"""Several loads measured in one launch: each is a run of its own, and what was measured outlives whatever comes after it."""
import json
import os
import re
import signal
import time

import pytest
from conftest import ROOT
from openai_fake import Fake
from test_experiment import processes_of
from test_http import COMMON, engine, fake_gpus, openai, reasons

WARM = ["--set", "warmup={requests: 1}"]  # one probe, one batch, then the levels


def traffic(**keys):
    return ["--set", "traffic=" + json.dumps({"duration_sec": 1, "settle_sec": 0.2, **keys})]


def stored(lem):
    """The result documents of all runs, oldest first."""
    rows = json.loads(lem("results", "list", "--json", check=0).stdout)
    return [json.loads(lem("results", "show", r["run_id"], "--json", check=0).stdout) for r in reversed(rows)]


def rows_of(lem, run_id):
    return json.loads(lem("results", "export", run_id, "--format", "json", check=0).stdout)


def levels(lem, text, *args, check=0, **kw):
    return json.loads(lem("experiment", lem.config(text), "--json", *WARM, *args, check=check, **kw).stdout)


# ---- what comes out ----

def test_each_rate_is_a_run(lem, tmp_path):
    from jsonschema import Draft202012Validator
    with Fake(tmp_path) as f:
        d = levels(lem, openai(f.port), *traffic(rates=[10, 20, 40], arrival="constant"))
    assert d["schema"] == "lem.levels/1" and d["not_measured"] == [] and d["why"] is None and d["exit_code"] == 0
    runs = d["levels"]
    assert len({r["run_id"] for r in runs}) == 3 and d["launch_id"] == runs[0]["run_id"]
    assert [r["level"] for r in runs] == [{"launch_id": d["launch_id"], "index": i, "n": 3, "rate_hz": rate, "in_flight": None}
                                          for i, rate in enumerate((10, 20, 40))]
    assert [r["window"]["requests"] for r in runs] == [10, 20, 40]
    assert [r["tokens"]["output"] for r in runs] == [120, 240, 480]
    assert len({r["config_hash"] for r in runs}) == 1 and len({r["provenance"]["prompts_sha256"] for r in runs}) == 1
    # one launch: the same start and warm-up in all, windows one after the other with a pause
    for key in ("load", "warmup"):
        assert len({json.dumps([p for p in r["phases"] if p["phase"] == key]) for r in runs}) == 1
    for a, b in zip(runs, runs[1:]):
        assert b["window"]["start_ns"] - a["window"]["end_ns"] > 0.2e9 and a["ended"] <= b["started"]
    schema = Draft202012Validator(json.loads((ROOT / "docs" / "result-schema.json").read_text()))
    assert [e.message for r in runs for e in schema.iter_errors(r)] == []
    again = stored(lem)
    assert again == runs, "the document is what the stored records give"


def test_each_has_its_own_requests(lem, tmp_path):
    with Fake(tmp_path) as f:
        d = levels(lem, openai(f.port), *traffic(rates=[10, 30], arrival="constant", ramp_sec=0.5))
    for r, sent, counted in zip(d["levels"], (10, 30), (5, 15)):
        q = rows_of(lem, r["run_id"])
        assert len(q) == sent and r["window"]["requests"] == counted and [x["request"] for x in q] == list(range(sent))
        start = r["window"]["start_ns"]
        assert all(start - 0.5e9 - 1 <= x["scheduled_ns"] < r["window"]["end_ns"] for x in q)
        assert [x["prompt"] for x in q] == [i % 8 for i in range(sent)], "each level begins with the first prompt"


def test_closed_loops(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 4) as f:
        d = levels(lem, openai(f.port), *traffic(concurrencies=[1, 4]))
    one, four = d["levels"]
    assert one["level"]["in_flight"] == 1 and four["level"]["in_flight"] == 4 and one["level"]["rate_hz"] is None
    assert one["engine"]["mode"] == "server/closed"
    assert four["throughput"]["requests_per_s"]["value"] > 2 * one["throughput"]["requests_per_s"]["value"]


def test_without_a_duration_each_prompt_once(lem, tmp_path):
    with Fake(tmp_path) as f:
        d = levels(lem, openai(f.port), *traffic(rates=[40, 80], duration_sec=None))
    assert [r["window"]["requests"] for r in d["levels"]] == [8, 8]


def test_one_entry_is_a_list_too(lem, tmp_path):
    with Fake(tmp_path) as f:
        d = levels(lem, openai(f.port), *traffic(rates=[20]))
    assert len(d["levels"]) == 1 and d["levels"][0]["level"]["n"] == 1


def test_one_load_has_no_level(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment(*WARM, *["--set", "traffic={rate: 20, duration_sec: 1}"], text=openai(f.port))
    assert r["schema"] == "lem.result/1" and r["level"] is None
    assert json.loads(lem("results", "list", "--json", check=0).stdout)[0]["level"] is None


def test_what_people_see(lem, tmp_path):
    with Fake(tmp_path) as f:
        done = lem("experiment", lem.config(openai(f.port)), *WARM, *traffic(rates=[10, 20.5]), check=0)
    lines = re.findall(r"^lem: load (\d) of 2, (\S+) requests/s: (valid|suspect), \S+ requests/s, \S+ tokens/s.* (\S+)$", done.stderr, re.M)
    assert [(x[0], x[1]) for x in lines] == [("1", "10"), ("2", "20.5")]
    table = [line for line in done.stdout.splitlines() if "requests/s" in line]
    assert len(table) == 2 and table[1].startswith("20.5 requests/s") and all(len(line) <= 100 for line in done.stdout.splitlines())
    listed = lem("results", "list", check=0).stdout.splitlines()
    tail = lines[0][3].rsplit("-", 1)[1]
    assert f"2/2 of {tail}, 20.5 requests/s" in listed[1] and f"1/2 of {tail}, 10 requests/s" in listed[2]
    shown = lem("results", "show", lines[1][3], check=0).stdout
    assert f"20.5 requests/s: 2 of 2 in the launch {lines[0][3]}" in " ".join(shown.split())


def test_the_command_that_is_told_shows_the_run(lem, tmp_path):
    with Fake(tmp_path, "--first-ms", "1100") as f:
        several = lem("experiment", lem.config(openai(f.port)), "-o", "there", *WARM, *traffic(rates=[3]), check=0)
        one = lem("experiment", lem.config(openai(f.port)), "-o", "there", *WARM, check=0)
        usual = lem("experiment", lem.config(openai(f.port)), *WARM, check=0)
    assert re.search(r"first token p50 1\d\d\d ms", several.stderr), "in figures, not 1.1e+03"
    assert "'lem results show RUN -o there' shows each" in several.stdout
    told = re.search(r"'lem (results show \S+ -o there)'", one.stdout).group(1).split()
    assert told[2] in lem(*told, check=0).stdout
    told = re.search(r"'lem (results show \S+)'", usual.stdout).group(1).split()
    assert told[2] in lem(*told, check=0).stdout


def test_quiet_says_nothing(lem, tmp_path):
    with Fake(tmp_path) as f:
        done = lem("experiment", lem.config(openai(f.port)), "-q", *WARM, *traffic(rates=[10, 20]), check=0)
    assert done.stdout == "" and done.stderr == "" and len(stored(lem)) == 2


def test_joules_are_those_of_the_level(lem, tmp_path):
    """A fake GPU of 200 W: each level has its own window's joules and the launch's baselines."""
    env = {**fake_gpus(lem), "LEM_FAKE_NVML": "gpus=1;power=const:200"}
    text = openai(0).replace("baseline: {enabled: false}", "baseline: {duration_sec: 5}") + "gpus: [0]\n"
    with Fake(tmp_path) as f:
        d = levels(lem, text.replace("127.0.0.1:0/", f"127.0.0.1:{f.port}/"), *traffic(rates=[10, 20], duration_sec=3, settle_sec=1), env=env)
    for r in d["levels"]:
        e = r["energy"]
        assert e["gpu_j"]["value"] == pytest.approx(600, rel=0.02) and e["gpu_j"]["low"] <= 600 <= e["gpu_j"]["high"], e["gpu_j"]
        assert e["idle_w"]["value"] == pytest.approx(200, rel=0.02) and e["resident_idle_w"]["value"] == pytest.approx(200, rel=0.02)
        assert abs(e["gpu_above_idle_j"]["value"]) < 30
        assert r["efficiency"]["j_per_output_token"]["value"] == pytest.approx(600 / r["tokens"]["output"], rel=0.02)
    a, b = d["levels"]
    assert [p for p in a["phases"] if p["phase"].startswith("baseline")] == [p for p in b["phases"] if p["phase"].startswith("baseline")]


def test_on_proved_gpus_each_level_is_watched(lem):
    env, text = engine(lem, "sglang")
    env.update(fake_gpus(lem))
    done = lem("experiment", lem.config(text.replace("gpus: []", "gpus: [2]")), "--json", *WARM, *traffic(rates=[10, 20]),
               env={**env, "FAKE_DIALECT": "vllm"})
    assert done.returncode == 0, done.stdout + done.stderr
    for r in json.loads(done.stdout)["levels"]:
        assert r["routing"]["proved"] is True and r["routing"]["guard"], r["routing"]
    assert processes_of(lem.folder) == []


# ---- what goes wrong ----

def test_killed_in_level_3(lem, tmp_path):
    with Fake(tmp_path) as f:
        p = lem.start("experiment", lem.config(openai(f.port)), *WARM, *traffic(rates=[10, 20, 30, 40], duration_sec=2))
        seen = ""
        while "load 3 of 4" not in seen:
            line = p.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(0.5)
        p.send_signal(signal.SIGKILL)
        p.communicate(timeout=30)
        runs = stored(lem)
        assert [r["level"]["index"] for r in runs] == [0, 1] and all(r["status"] == "completed" for r in runs)
        assert runs[1]["level"]["n"] == 4 and runs[1]["window"]["requests"] > 20
        assert all((lem.folder / "results" / f"{r['run_id']}.json").exists() for r in runs)


def test_engine_dies_in_level_3(lem):
    env, text = engine(lem)
    # probe 1, warm-up batch 10 × 8 at most; levels of 8 prompts each
    n = 1 + 8 + 8 + 8 + 3
    done = lem("experiment", lem.config(text), "--json", *WARM, *traffic(rates=[40, 40, 40, 40, 40], duration_sec=None, arrival="constant"),
               "--set", "vllm.max_num_seqs=8", env={**env, "FAKE_FAULT": "die-mid", "FAKE_AFTER": str(n)}, check=1)
    d = json.loads(done.stdout)
    assert [r["status"] for r in d["levels"]] == ["completed", "completed", "failed"]
    assert [x["index"] for x in d["not_measured"]] == [3, 4] and "the engine ended" in d["why"] and d["exit_code"] == 1
    assert all(r["verdict"]["level"] != "invalid" for r in d["levels"][:2])
    last = d["levels"][2]
    assert last["tokens"]["output"] > 0 and last["verdict"]["level"] == "invalid" and "exit status 3" in last["error"]["what"]
    assert "exit status 3" in done.stderr and stored(lem) == d["levels"] and processes_of(lem.folder) == []


def test_engine_dies_in_level_2_for_people(lem):
    env, text = engine(lem)
    done = lem("experiment", lem.config(text), *WARM, *traffic(rates=[40, 40, 40], duration_sec=None), "--set", "vllm.max_num_seqs=8",
               env={**env, "FAKE_FAULT": "die-mid", "FAKE_AFTER": str(1 + 8 + 8 + 2)}, check=1)
    assert "1 of 3 loads were not measured: the engine ended" in done.stdout and done.stdout.count("not measured") == 2
    assert "failed" in done.stdout and "lost its mind" in done.stderr


def test_engine_dies_in_the_pause(lem):
    env, text = engine(lem)
    p = lem.start("experiment", lem.config(text), *WARM, *traffic(rates=[40, 40], duration_sec=None, settle_sec=30), env=env)
    seen = ""
    while "load 1 of 2, 40" not in seen:
        line = p.stderr.readline()
        assert line, seen
        seen += line
    children = [int(pid) for task in os.listdir(f"/proc/{p.pid}/task") for pid in open(f"/proc/{p.pid}/task/{task}/children").read().split()]
    assert children
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    t = time.time()
    _, err = p.communicate(timeout=30)
    assert time.time() - t < 15 and p.returncode == 1 and "the pause between two loads" in err
    runs = stored(lem)
    assert [r["status"] for r in runs] == ["completed", "failed"] and runs[1]["window"]["requests"] == 0
    assert runs[0]["client"]["retried"] == 0 and runs[1]["client"]["retried"] is None, "nothing is known of what was not begun"


def test_interrupt_in_level_2(lem, tmp_path):
    with Fake(tmp_path) as f:
        p = lem.start("experiment", lem.config(openai(f.port)), "--json", *WARM, *traffic(rates=[10, 20, 30], duration_sec=3))
        seen = ""
        while "measuring, load 2 of 3" not in seen:
            line = p.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        out, _ = p.communicate(timeout=30)
    d = json.loads(out)
    assert p.returncode == 130 and [r["status"] for r in d["levels"]] == ["completed", "interrupted"]
    assert d["levels"][1]["tokens"]["output"] > 0 and [x["rate_hz"] for x in d["not_measured"]] == [30] and d["why"] == "interrupted"


def test_overload_is_named_and_ends_the_list(lem, tmp_path):
    """4 slots of about 60 ms: 60 requests/s and no more."""
    with Fake(tmp_path, "--slots", 4, "--token-ms", 4, "--first-ms", 10) as f:
        args = traffic(rates=[10, 150, 20], duration_sec=2, arrival="constant")
        patient = openai(f.port).replace("request_timeout_sec: 3", "request_timeout_sec: 60")
        d = levels(lem, patient, *args)
        e = levels(lem, patient, *args, "--set", "traffic.stop_when_overloaded=true")
        single = lem.experiment(*WARM, "--set", "traffic={rate: 150, duration_sec: 2, arrival: constant}", text=patient)
    assert ["overloaded" in reasons(r) for r in d["levels"]] == [False, True, False], [reasons(r) for r in d["levels"]]
    assert d["levels"][1]["verdict"]["level"] == "suspect" and d["exit_code"] == 0
    assert [r["level"]["rate_hz"] for r in e["levels"]] == [10, 150] and [x["rate_hz"] for x in e["not_measured"]] == [20]
    assert "stop_when_overloaded" in e["why"] and e["exit_code"] == 0
    assert "overloaded" in reasons(single), "one load is judged alike"


def test_a_server_that_turns_requests_away(lem, tmp_path):
    with Fake(tmp_path, "--fault", "429", "--every", 3, "--after", 9) as f:
        done = lem("experiment", lem.config(openai(f.port)), "--json", *WARM, *traffic(rates=[40, 80], stop_when_overloaded=True), check=4)
    d = json.loads(done.stdout)
    assert len(d["levels"]) == 1 and "turned away" in reasons(d["levels"][0]) and d["exit_code"] == 4


def test_every_request_of_a_level_fails(lem, tmp_path):
    with Fake(tmp_path, "--fault", "500", "--after", 1 + 8 + 8) as f:
        d = levels(lem, openai(f.port), *traffic(rates=[40, 40, 40], duration_sec=None), check=1)
    assert [r["status"] for r in d["levels"]] == ["completed", "failed"] and "every request failed" in d["why"]


def test_a_server_that_has_gone_is_no_load(lem, tmp_path):
    """Somebody else's server ends in the pause: no connection is made any more, which is a failure and not a window without answers."""
    with Fake(tmp_path) as f:
        p = lem.start("experiment", lem.config(openai(f.port)), *WARM, *traffic(rates=[40, 40, 40], duration_sec=None, settle_sec=2))
        seen = ""
        while "load 1 of 3, 40" not in seen:
            line = p.stderr.readline()
            assert line, seen
            seen += line
    _, err = p.communicate(timeout=60)
    assert p.returncode == 1 and "every request failed while generating" in err and "Connection refused" in err
    runs = stored(lem)
    assert [r["status"] for r in runs] == ["completed", "failed"] and runs[1]["client"]["failures"] == {"connect": 8}


def test_a_disk_that_fails_keeps_every_level(lem, tmp_path):
    """The database cannot be written from the first level on: each is saved elsewhere, and the next is measured all the same."""
    rescue = tmp_path / "rescue"
    rescue.mkdir()
    with Fake(tmp_path) as f:
        p = lem.start("experiment", lem.config(openai(f.port)), "--json", *WARM, *traffic(rates=[10, 20]), env={"TMPDIR": str(rescue)})
        seen = ""
        while "measuring, load 1 of 2" not in seen:
            line = p.stderr.readline()
            assert line, seen
            seen += line
        db = lem.folder / "results" / "lem.sqlite"
        import sqlite3
        lock = sqlite3.connect(db)
        lock.execute("DROP TABLE runs")
        lock.commit()
        lock.close()
        out, err = p.communicate(timeout=60)
    d = json.loads(out)
    assert p.returncode == 1 and len(d["levels"]) == 2 and d["exit_code"] == 1
    assert len(list(rescue.glob("lem-rescue-*/lem.sqlite"))) == 2 and "lem results import" in err


def test_too_many_requests_are_refused_before_the_launch(lem):
    done = lem("experiment", lem.config(openai(1)), *traffic(rates=[1, 100000], duration_sec=3600), check=2)
    assert "10000000 requests" in done.stderr and "load 2 of 2" in done.stderr and not list((lem.folder / "results").glob("*.json"))


def test_a_refused_launch_is_one_error(lem):
    done = lem("experiment", lem.config(openai(1)), "--json", *traffic(rates=[1, 2]), check=1)
    assert json.loads(done.stdout) and "127.0.0.1:1" in done.stdout + done.stderr


def test_workers_are_still_refused(lem):
    done = lem("experiment", lem.config(), "--set", "traffic={rates: [1, 2]}", check=2)
    assert "llamacpp" in done.stderr and "traffic" in done.stderr


# ---- in a campaign ----

def test_a_campaign_with_levels(lem, tmp_path):
    with Fake(tmp_path) as f:
        text = openai(f.port) + "warmup: {requests: 1}\n" if "warmup" not in COMMON else openai(f.port)
        lem.config(text + "traffic: {rates: [10, 20], duration_sec: 1, settle_sec: 0.2}\n", "levels.yaml")
        lem.config(text.replace("config_name: served", "config_name: single"), "single.yaml")
        done = lem("campaign", "levels.yaml", "single.yaml", "--json", check=0)
        table = lem("campaign", "levels.yaml", check=0)
    d = json.loads(done.stdout)
    a, b = d["cells"]
    assert d["status"] == "finished" and a["status"] == b["status"] == "completed"
    assert a["run_id"] == a["levels"][0]["run_id"] and [v["rate_hz"] for v in a["levels"]] == [10, 20] and b["levels"] is None
    assert a["output_tokens_per_s"]["value"] is None and "levels" in a["output_tokens_per_s"]["reason"]
    assert all(v["verdict"]["level"] in ("valid", "suspect") and v["output_tokens_per_s"]["value"] > 0 for v in a["levels"])
    assert b["output_tokens_per_s"]["value"] > 0 and len(stored(lem)) == 5
    assert "10 requests/s" in table.stdout and "20 requests/s" in table.stdout


# ---- rates that change, the client's certificate ----

def test_a_rate_that_changes(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment(*WARM, "--set", "traffic={arrival: constant, rate: 10, ramp_to_rate: 50, duration_sec: 2}", text=openai(f.port))
    t = [x["scheduled_ns"] for x in rows_of(lem, r["run_id"])]
    assert abs(len(t) - 60) <= 1 and abs(sum(x - t[0] < 1e9 for x in t) - 20) <= 1  # 10 to 30 in the first second, then to 50
    assert r["window"]["requests"] == len(t), "none is left uncounted, unlike with ramp_sec"


def test_the_client_is_certified(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment(*WARM, text=openai(f.port))
        off = lem.experiment(*WARM, "--no-client-roofline", text=openai(f.port))
    c = r["client"]
    assert c["urgency"] in ("realtime", "nice", "ordinary")
    assert c["roofline"]["requests_per_cpu_s"]["value"] > 1000 and c["roofline"]["chunks_per_cpu_s"]["value"] > 10000
    assert c["headroom"]["requests"]["value"] > 1 and c["headroom"]["chunks"]["value"] > 1
    assert off["client"]["roofline"]["requests_per_cpu_s"]["value"] is None and "notes" in off["client"]["headroom"]["chunks"]["reason"]
    assert any("client_roofline is false" in n for n in off["notes"])
    assert r["config_hash"] == off["config_hash"], "it changes nothing of the measurement"
