"""`lem campaign` as a user runs it: several experiments, each in its own place, with the real worker on the CPU."""
import json
import signal
import time

import pytest
from conftest import ASAN, QUICK
from test_experiment import processes_of

FAKE = ASAN / "tests" / "fakes" / "fake_worker"
NVML = ASAN / "tests" / "fakes" / "libnvml_fake.so"
TWO_GOOD_ONE_BROKEN = QUICK + f"""
experiments:
  - {{}}
  - {{config_name: broken, llamacpp.worker: {FAKE}}}
  - {{llamacpp: {{batch_size: 8}}}}
"""
# Scripted, for tests of everything but the measuring.
FAST = QUICK.replace("llamacpp: {batch_size: 4}", f"llamacpp: {{batch_size: 4, worker: {FAKE}}}")
DIES = {"LEM_FAKE_WORKER": "fault=die run=1"}


# The fake driver is built with sanitizers, and so must be the program that loads it.
TWO_GPUS = {"env": {"LEM_NVML_LIBRARY": str(NVML), "LEM_FAKE_NVML": "gpus=2"}, "program": str(ASAN / "lem")}


def campaign(lem, *args, **kw):
    return json.loads(lem("campaign", *args, "--json", **kw).stdout)


def runs(lem):
    return json.loads(lem("results", "list", "--json", check=0).stdout)


def test_a_failing_cell_does_not_stop_the_rest(lem):
    c = campaign(lem, lem.config(TWO_GOOD_ONE_BROKEN), check=1, env=DIES)
    assert c["schema"] == "lem.campaign/1" and c["status"] == "finished" and c["exit_code"] == 1
    assert [cell["name"] for cell in c["cells"]] == ["quick", "broken", "quick-2"]
    assert [cell["status"] for cell in c["cells"]] == ["completed", "failed", "completed"]
    assert [cell["item"] for cell in c["cells"]] == [1, 2, 3]
    good, broken, last = c["cells"]
    assert good["output_tokens_per_s"]["value"] > 0 and good["error"] is None and good["verdict"]["level"] != "invalid"
    assert good["j_per_output_token"]["value"] is None and good["j_per_output_token"]["reason"]
    assert broken["verdict"]["level"] == "invalid" and "exit status 3" in broken["error"]["what"]
    assert broken["output_tokens_per_s"]["value"] is None and broken["output_tokens_per_s"]["reason"]
    assert {r["run_id"] for r in runs(lem)} == {cell["run_id"] for cell in c["cells"]}
    for cell in c["cells"]:
        stored = json.loads(lem("results", "show", cell["run_id"], "--json", check=0).stdout)
        assert stored["config_name"] == cell["name"] and stored["config_hash"] == cell["config_hash"]
    assert last["config_hash"] != good["config_hash"]
    assert processes_of(lem.folder) == []


def test_the_table(lem):
    text = QUICK + f"experiments:\n  - {{}}\n  - {{config_name: broken, llamacpp.worker: {FAKE}}}\n"
    done = lem("campaign", lem.config(text), env=DIES, check=1)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:5] == ["experiment", "engine", "where", "GPUs", "outcome"]
    assert lines[1].split()[:4] == ["quick", "llamacpp", "process", "CPU"]
    assert lines[2].split()[:5] == ["broken", "llamacpp", "process", "CPU", "failed"]
    assert lines[3].strip().startswith("warm-up: the worker ended")
    assert len(lines) == 4
    assert "lem: 2 of 2: broken, llamacpp by process, CPU" in done.stderr


def test_several_files(lem):
    a, b = lem.config(FAST, name="a.yaml"), lem.config(FAST.replace("quick", "other"), name="b.yaml")
    c = campaign(lem, a, b, "--set", "llamacpp.batch_size=2", "-o", "elsewhere", "-q", check=0)
    assert [(cell["name"], cell["item"]) for cell in c["cells"]] == [("quick", None), ("other", None)]
    assert all((lem.folder / "elsewhere" / f"{cell['run_id']}.json").exists() for cell in c["cells"])
    stored = json.loads((lem.folder / "elsewhere" / f"{c['cells'][0]['run_id']}.json").read_text())
    assert stored["provenance"]["cli_overrides"]["llamacpp.batch_size"] == {"new": 2, "original": 4}


def test_an_old_campaign_file(lem):
    lem.config(FAST, name="a.yaml")
    old = lem.config("campaign_name: old\nconfigs: [a.yaml]\nexperiments:\n"
                     "  - {config: a.yaml, overrides: {max_output_tokens: 8, min_output_tokens: 8}}\nio: {results_dir: out}\n", name="old.yaml")
    c = campaign(lem, old, check=0)
    assert [(cell["name"], cell["campaign"], cell["results_dir"]) for cell in c["cells"]] == [("quick", "old", "out"), ("quick-2", "old", "out")]
    tokens = [json.loads((lem.folder / "out" / f"{cell['run_id']}.json").read_text())["tokens"]["output"] for cell in c["cells"]]
    assert tokens == [8 * 16, 8 * 8]


def test_one_refused_file_and_nothing_starts(lem):
    good = lem.config(QUICK, name="good.yaml")
    bad = lem.config(QUICK + "batch_size_typo: 1\nmax_output_tokens_: 2\n", name="bad.yaml")
    worse = lem.config("campaign_name: grid\ngrid: {backends: [vllm]}\n", name="worse.yaml")
    done = lem("campaign", good, bad, worse, check=2)
    assert done.stdout == "" and not (lem.folder / "results").exists()
    for part in ("bad.yaml:15:1: error C01 batch_size_typo", "bad.yaml:16:1: error C01 max_output_tokens_", "worse.yaml:2:1: error C24 grid: comes later"):
        assert part in done.stderr
    c = campaign(lem, good, bad, worse, check=2)
    assert c["status"] == "refused" and c["cells"] == [] and c["exit_code"] == 2
    assert [f["code"] for f in c["findings"] if f["severity"] == "error"] == ["C01", "C01", "C24"]


def test_absent_gpus_are_refused_before_anything_starts(lem):
    if not NVML.exists():
        pytest.fail(f"{NVML} is not built: run make test")
    cells = "experiments:\n  - {gpus: []}\n  - {config_name: absent, gpus: [7]}\n  - {config_name: far, gpus: [9]}\n"
    done = lem("campaign", lem.config(QUICK + cells), check=2, **TWO_GPUS)
    assert "absent: gpus lists 7" in done.stderr and "far: gpus lists 9" in done.stderr
    assert "2 of 3 experiments cannot run here; nothing was started" in done.stderr
    assert not (lem.folder / "results").exists() and processes_of(lem.folder) == []
    twice = cells.replace("[9]", "[0, 0]")  # can be seen without hardware
    c = campaign(lem, lem.config(QUICK + twice), check=2, **TWO_GPUS)
    assert [f["code"] for f in c["findings"] if f["severity"] == "error"] == ["R06"]


def test_dry_run_shows_where_each_would_go(lem):
    config = lem.config(QUICK + "experiments:\n  - {gpus: []}\n  - {gpus: [1, 0], llamacpp.tensor_split: [1, 1]}\n")
    done = lem("campaign", config, "--dry-run", check=0, **TWO_GPUS)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [row[2:5] for row in rows] == [["process", "CPU", "ready"], ["process", "1,0", "ready"]]
    c = campaign(lem, config, "--dry-run", check=0, **TWO_GPUS)
    assert c["status"] == "ready" and [cell["exit_code"] for cell in c["cells"]] == [None, None]
    assert [[g["index"] for g in cell["gpus"]] for cell in c["cells"]] == [[], [1, 0]]
    assert not (lem.folder / "results").exists()


def test_a_dry_run_without_a_daemon_is_no_error(lem):
    config = lem.config(QUICK.replace("llamacpp", "pytorch"), runner="docker")
    c = campaign(lem, config, "--dry-run", check=0, env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert [cell["status"] for cell in c["cells"]] == ["ready"] and c["cells"][0]["error"] is None
    assert any("/nowhere/docker.sock" in w for w in c["cells"][0]["warnings"])


def test_an_interrupt_stops_the_current_one_and_the_rest_is_not_started(lem):
    text = QUICK + "window: {min_duration_sec: 60}\nexperiments:\n  - {window: null}\n  - {}\n  - {}\n"
    p = lem.start("campaign", lem.config(text), "--json")
    seen = ""
    while "2 of 3" not in seen or "measuring" not in seen.split("2 of 3")[1]:
        line = p.stderr.readline()
        assert line, f"ended before the second was measured: {seen}"
        seen += line
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=30)
    assert p.returncode == 130
    c = json.loads(out)
    assert c["status"] == "interrupted" and c["exit_code"] == 130
    assert [cell["status"] for cell in c["cells"]] == ["completed", "interrupted", "not_started"]
    assert c["cells"][2]["run_id"] is None and c["cells"][2]["exit_code"] is None
    assert sorted(r["status"] for r in runs(lem)) == ["completed", "interrupted"]
    assert processes_of(lem.folder) == []


def test_a_results_folder_that_cannot_be_written(lem):
    (lem.folder / "file").write_text("")
    c = campaign(lem, lem.config(QUICK + "experiments: [{}, {}]\n"), "-o", "file", check=2)
    assert [cell["status"] for cell in c["cells"]] == ["refused", "refused"] and c["status"] == "refused" and c["exit_code"] == 2




@pytest.mark.parametrize("args, part", [([], "name at least one"), (["--set", "x"], "--set takes PATH=VALUE"), (["--nonsense"], ""),
                                        (["missing.yaml"], "missing.yaml: error C07 cannot be read")])
def test_usage(lem, args, part):
    done = lem("campaign", *args, check=2)
    assert part in done.stderr and done.stdout == ""


def test_help_and_list_of_commands(lem):
    assert "experiments:" in lem("campaign", "--help", check=0).stdout
    assert "campaign" in lem("help", check=0).stdout


def test_the_same_file_given_to_experiment_says_what_to_do(lem):
    done = lem("experiment", lem.config(QUICK + "experiments: [{}]\n"), check=2)
    assert "run the file with lem campaign" in done.stderr
