"""`lem results` as a user runs it, on a real stored run."""
import csv
import io
import json
import os
import resource
import sqlite3
import subprocess

import pytest


@pytest.fixture
def run(lem):
    return lem.experiment()


def alter(lem, sql, *args):
    with sqlite3.connect(lem.folder / "results" / "lem.sqlite") as db:
        db.execute(sql, args)
    db.close()


def test_exports_agree(lem, run):
    export = lambda fmt: lem("results", "export", "last", "--format", fmt, check=0).stdout
    whole = json.loads(export("json"))
    lines = [json.loads(line) for line in export("jsonl").splitlines()]
    table = list(csv.DictReader(io.StringIO(export("csv"))))
    assert whole == lines and len(whole) == run["window"]["requests"]
    for row, cells in zip(whole, table):
        assert int(cells["output_tokens"]) == row["output_tokens"] == 16
        assert float(cells["ttft_ms"]) == pytest.approx(row["ttft_ms"])
        assert float(cells["e2e_ms"]) == pytest.approx((row["last_token_ns"] - row["sent_ns"]) / 1e6)
    assert sum(row["input_tokens"] for row in whole) == run["tokens"]["input"]


def test_rebuild_renews_an_old_document(lem, run):
    path = lem.folder / "results" / f"{run['run_id']}.json"
    alter(lem, "UPDATE summaries SET result = '{}', output_tokens_per_s = 1")
    shown = lem("results", "show", "last", "--json", check=0)
    assert json.loads(shown.stdout) == run  # from the raw record
    assert "lem results rebuild" in shown.stderr
    lem("results", "rebuild", "all", check=0)
    assert json.loads(path.read_text()) == run
    assert lem("results", "show", "last", "--json", check=0).stderr == ""
    rows = json.loads(lem("results", "list", "--json", check=0).stdout)
    assert rows[0]["output_tokens_per_s"] == run["throughput"]["output_tokens_per_s"]["value"]


def test_a_damaged_record_is_named_and_the_others_work(lem, run):
    other = lem.experiment()
    alter(lem, "UPDATE runs SET record = x'0102' WHERE run_id = ?", run["run_id"])
    done = lem("results", "show", run["run_id"], check=1)
    assert "damaged" in done.stderr and run["run_id"] in done.stderr and f"{run['run_id']}.json" in done.stderr
    assert lem("results", "show", other["run_id"], check=0).stdout
    assert len(json.loads(lem("results", "list", "--json", check=0).stdout)) == 2
    assert "damaged" in lem("results", "rebuild", "all", check=1).stderr


def test_import_from_another_folder(lem, run):
    done = lem("results", "import", "results", "-o", "elsewhere", check=0)
    assert "1 run imported into elsewhere" in done.stderr
    assert json.loads(lem("results", "show", "last", "--json", "-o", "elsewhere", check=0).stdout) == run
    assert json.loads((lem.folder / "elsewhere" / f"{run['run_id']}.json").read_text()) == run
    assert "0 runs imported" in lem("results", "import", "results", "-o", "elsewhere", check=0).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_during_the_run(lem):
    """There is room at the start and none at the end: the run is kept elsewhere and can be brought home."""
    small, spare = lem.folder / "small", lem.folder / "spare"
    small.mkdir(), spare.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        before = lem.experiment("-o", "small")
        p = lem.start("experiment", lem.config(), "-o", "small", "--set", "window.min_duration_sec=2", env={"TMPDIR": str(spare)})
        while "measuring" not in p.stderr.readline():
            assert p.poll() is None
        with open(small / "filler", "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4096))
            except OSError:
                pass
        out, err = p.communicate(timeout=60)
        assert p.returncode == 1, err
        assert "full" in err and "lem results import" in err
        assert "tokens/s" in out  # what was measured is shown all the same
        rescued, = spare.glob("lem-rescue-*")
        os.remove(small / "filler")
        lem("results", "import", rescued, "-o", "small", check=0)
        rows = json.loads(lem("results", "list", "--json", "-o", "small", check=0).stdout)
        assert len(rows) == 2 and rows[1]["run_id"] == before["run_id"]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.parametrize("words, message", [
    ((), "list, show"),
    (("frobnicate",), "no 'results frobnicate'"),
    (("show",), "needs a run"),
    (("list", "more"), "'more' is one word too many"),
    (("list", "--wat"), "--wat"),
    (("list", "-o"), "-o"),
])
def test_usage(lem, words, message):
    done = lem("results", *words, check=2)
    assert message in done.stderr and "lem results --help" in done.stderr and done.stdout == ""


def test_nothing_there(lem):
    done = lem("results", "list", "-o", "nowhere", check=1)
    assert "no results in nowhere" in done.stderr and not (lem.folder / "nowhere").exists()
    assert json.loads(lem("results", "list", "--json", "-o", "nowhere", check=1).stdout)["error"]["code"] == "not_found"


def test_a_run_that_is_not_there(lem, run):
    assert "begins with 'zzz'" in lem("results", "show", "zzz", check=1).stderr
    assert "csv, json or jsonl" in lem("results", "export", "last", "--format", "xml", check=2).stderr
    second = lem.experiment()
    done = lem("results", "show", run["run_id"][:4], check=2)
    assert run["run_id"] in done.stderr and second["run_id"] in done.stderr


def test_a_limit_on_file_sizes_is_reported(lem):
    """The kernel's answer to a file beyond `ulimit -f` is a signal that would end lem without a word."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    done = subprocess.run([lem.program, "experiment", str(lem.config())], cwd=lem.folder, text=True, capture_output=True, preexec_fn=limit)
    assert done.returncode == 2, done
    assert "cannot be written" in done.stderr and "File too large" in done.stderr
