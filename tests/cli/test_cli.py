"""The command ``zvl``: what its subcommands print, and their exit codes."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import nibabel.streamlines
import numpy as np
import pytest
from nibabel.streamlines import Tractogram

import zarr_vectors_lazy as zvl
from tests.bounds import HANGS_S
from tests.integration.generations import Copy
from zarr_vectors_lazy.cli import interrupt_again, make, options, run
from zarr_vectors_lazy.cli import main as cli
from zarr_vectors_lazy.cli.options import NewPlace
from zarr_vectors_lazy.cli.read import sketch
from zarr_vectors_lazy.storage.requests import counting

ROOT = Path(__file__).parents[2]
BOX = "84,100,78,92,112,88"
BELOW = "-1000,-1000,-1000,92,112,88"


@pytest.fixture
def zvl_run(capsys):
    """Run ``zvl`` with arguments; return its exit code, output and errors."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        done = capsys.readouterr()
        return ended.value.code or 0, done.out, done.err

    return run


def test_info_tells_what_metadata_tell(zvl_run, golden):
    with counting() as counts:
        code, out, _ = zvl_run("info", golden.path)
    assert code == 0
    assert golden.meta["levels"]
    assert not [key for key in counts.keys if "/c/" in key]
    for level in zvl.open_zv(golden.path):
        assert f"{level.vertex_count:,}" in out
    assert "occupied chunks" in out


def test_an_empty_tractogram_is_a_store_that_info_shows(zvl_run, tmp_path):
    nothing = Tractogram([], affine_to_rasmm=np.eye(4))
    nibabel.streamlines.save(nothing, tmp_path / "a.tck")
    assert zvl_run("ingest", tmp_path / "a.tck", tmp_path / "a.zv")[0] == 0
    code, out, _ = zvl_run("info", tmp_path / "a.zv")
    assert (code, "no chunks" in out) == (0, True)
    assert "left out" not in zvl_run("read", tmp_path / "a.zv", tmp_path / "b.tck")[2], "a TCK is in RAS mm"


def test_json_is_json(zvl_run, tracts):
    facts = json.loads(zvl_run("info", tracts, "--json")[1])
    assert [level["vertices"] for level in facts["levels"]] == [5261, 141, 40]
    assert facts["bounds"][0] == zvl.open_zv(tracts).bounds[0].tolist()
    members = json.loads(zvl_run("ls", tracts, "--json")[1])
    assert members["arrays"]["attributes['tangent']"] == {"shape": [None, 3], "dtype": "float32"}
    assert members["groups"] == {"short": 37, "middle": 36, "long": 37}
    plan = json.loads(zvl_run("explain", tracts, "vertices", "arc_length", "-b", BOX, "--json")[1])
    assert (plan["chunks"], plan["chunks_total"], plan["requests"]) == (3, 16, 6)


def test_members_are_listed(zvl_run, surface):
    code, out, _ = zvl_run("ls", surface)
    assert code == 0
    assert "faces" in out
    assert "attributes['curv']" in out
    assert "1 object" in out


def test_explain_prints_its_table(zvl_run, tracts):
    expected = str(zvl.open_zv(tracts)[1].sel(x=slice(80, 90)).explain("edges"))
    infinite = "80,-inf,-inf,90,inf,inf"
    assert zvl_run("explain", tracts, "edges", "--level", 1, f"--bbox={infinite}")[1].strip() == expected


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["info", "{folder}/nothing"], 2, "nothing is here"),
        (["info", "{tracts}", "--backend", "carrier-pigeon"], 2, "'carrier-pigeon' is not one of 'obstore'"),
        (["info", "{tracts}", "-o", "novalue"], 2, "KEY=VALUE"),
        (["ls", "{tracts}", "--level", "7"], 2, "no level 7"),
        (["explain", "{tracts}", "weight"], 2, "arc_length"),
        (["explain", "{tracts}", "-b", "1,2"], 2, "6 numbers"),
        (["explain", "{tracts}", "-b", "1", "2", "3"], 2, "found 1: '1'; put commas between them"),
        (["info", "{tracts}", "--level", "1"], 2, "No such option: --level (zvl info -h"),
        (["info", "{tracts}", "--jsn"], 2, "No such option: --jsn (Possible options: --json)"),
        (["ingest", "{folder}/note.csv", "{folder}/new", "--axes", "x"], 2, "--axes must name 2 columns or more"),
        (["explain", "{tracts}", "-b", "a,b,c,d,e,f"], 2, "6 numbers"),
        (["explain", "{tracts}", "-b", "1,1,1,0,2,2"], 2, "--bbox has lo > hi on axis 0"),
        (["explain", "{tracts}", "--where", "arc_length"], 2, "NAME=LO:HI"),
        (["explain", "{tracts}", "--where", "arc_length="], 2, "NAME=VALUE"),
        (["explain", "{tracts}", "--where", "arc_length=1:2:3"], 2, "JSON"),
        (["explain", "{tracts}", "--where", "arc_length=[1,"], 2, "JSON"),
        (["explain", "{tracts}", "--where", "length=1"], 2, "objects have it: .objects.attributes['length']"),
        (["explain", "{tracts}", "--where", "arc_length=a:b"], 2, "numbers"),
        (["explain", "{tracts}", "--level", "1", "--resolution", "3"], 2, "not both: --resolution 3.0, --level 1"),
        (["read", "{tracts}", "{folder}/out.xyz"], 2, "no format '.xyz'"),
        (["read", "{tracts}", "{folder}/out.cvs"], 2, "did you mean '.csv'"),
        (["read", "{tracts}", "{folder}/missing/out.csv"], 2, "no folder"),
        (["read", "{tracts}", "{folder}/out.csv", "--scheduler", "many"], 2, "'threads', 'processes', 'sync'"),
        (["frobnicate"], 2, "frobnicate"),
        (["validate", "{folder}/nothing"], 2, "nothing is here"),
        (
            ["ingest", "{folder}/note.csv", "{folder}/new", "--like", "x.trk"],
            2,
            "--like and --reference are for tractograms",
        ),
        (
            ["read", "{tracts}", "{folder}/out.csv", "--reference", "x.nii"],
            2,
            "for tractograms, which CSV does not hold",
        ),
        (["ingest", "{folder}/note.csv", "{folder}/note.txt"], 3, "there is a file where a folder should be"),
        (["info", "{folder}/note.txt"], 2, "this is a file: zvl ingest"),
        (["info", "{tracts}/0"], 2, "open the folder above it"),
        (["validate", "{tracts}/0"], 2, "open the folder above it"),
        (["info", "{tracts}/.."], 2, "no zarr.json at the root; stores may be in it: "),
        (["info", "{folder}"], 2, "no zarr.json at the root; found 'empty.csv', 'note.csv'"),
        (["ingest", "{folder}/empty.csv", "{folder}/new"], 2, "empty.csv cannot be read as CSV: the file is empty"),
        (["ingest", "-", "{folder}/new"], 2, "say what it is, such as --format csv"),
        (["ingest", "-", "{folder}/new", "--format", "docx"], 2, "no format 'docx' that can be read; there is .csv"),
        (
            ["rechunk", "{tracts}", "{folder}/new", "--chunk-shape", "10", "--bin-shape", "3"],
            2,
            "[10.0, 10.0, 10.0] is [3.333, 3.333, 3.333] times [3.0, 3.0, 3.0]",
        ),
        (["explain", "{tracts}", "--object", "4,x"], 2, "--object must be whole numbers, found '4,x'"),
        (
            ["explain", "{tracts}", "--where", "arc_length=10:5"],
            2,
            "--where arc_length=10:5: the range ends before it begins",
        ),
        (["ls", "{tracts}", "--level", "1.5"], 2, "it must be a whole number"),
        (["read", "{tracts}", "{folder}"], 2, "is a folder: give the path of a file"),
        (["read", "{tracts}", "{folder}/out"], 2, "has no suffix that says what is to be written; there is .csv"),
        (["read", "{tracts}", "s3://bucket/out.csv"], 2, "a file is written to disk, found a URL"),
        (
            ["read", "{tracts}", "{folder}/out.las"],
            2,
            "LAS holds point_cloud, but the store is of streamline; for that there is CSV",
        ),
        (["ingest", "{tracts}", "{folder}/new"], 2, "files come first, then a store"),
        (
            ["ingest", "{folder}/note.csv", "{folder}/new", "--chunk-shape", "0"],
            2,
            "must be 3 positive numbers, found 0 (one number is for all axes);",
        ),
        (["ingest", "{folder}/note.csv", "{folder}/new", "--axes", "a,b,c"], 2, "--axes names other columns"),
        (["pyramid", "{tracts}", "-f", "2", "--links", "all"], 2, "'all' is not one of 'none'"),
        (["infos", "{tracts}"], 2, "Did you mean 'info'?"),
        (["ingest", "", "{folder}/new"], 2, "files must be paths, found ''"),
        (["serve", "{tracts}", "--port", "99999"], 2, "it must be less than or equal to 65535"),
        (
            ["read", "{tracts}", "-", "--where", "arc_length=nan"],
            2,
            "--where arc_length=nan: it has NaN; use null for missing values",
        ),
        (["info"], 2, "Missing argument 'STORE'. (zvl info -h lists the choices)"),
        (["info", "{tracts}", "--level", "0"], 2, "--level"),
        (["ls", "{tracts}", "--level", "fine"], 2, "--level"),
        (["view", "{tracts}", "--port", "70000"], 2, "65535"),
        (["cost", "{tracts}", "--put", "-1"], 2, "--put must be a price"),
        (["cors", "s4"], 2, "'s3'"),
        (["shard", "{tracts}", "--shape", "0"], 2, "--shape must be"),
        (["plot", "{tracts}", "{folder}/missing/a.png"], 2, "no folder"),
        (["plot", "{tracts}", "{folder}/a.pgn"], 2, "did you mean 'png'"),
        (["plot", "{tracts}", "{folder}/a.png", "--color", "arclength"], 2, "did you mean 'arc_length'"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(zvl_run, tracts, tmp_path, words, code, message):  # noqa: PLR0917
    (tmp_path / "note.txt").write_text("a note")
    (tmp_path / "note.csv").write_text("x,y,z\n1,2,3\n")
    (tmp_path / "empty.csv").touch()
    found, out, err = zvl_run(*(word.format(tracts=tracts, folder=tmp_path) for word in words))
    assert found == code
    assert message in err
    assert not out
    assert err.startswith("zvl: ")
    assert err.count("\n") == 1


def test_a_store_or_picture_that_is_there_is_replaced_by_overwrite_alone(zvl_run, tracts, tmp_path):
    (tmp_path / "a.png").write_text("precious")
    code, _, err = zvl_run("plot", tracts, tmp_path / "a.png")
    assert (code, "--overwrite" in err, (tmp_path / "a.png").read_text()) == (2, True, "precious")
    assert zvl_run("plot", tracts, tmp_path / "a.png", "--overwrite", "--level", "2")[0] == 0
    zvl.write_points(tmp_path / "s", np.zeros((1, 3)), chunk_shape=5)
    code, _, err = zvl_run("rechunk", tracts, tmp_path / "s", "--chunk-shape", "50")
    assert (code, "--overwrite replaces it" in err, "mode=" in err) == (3, True, False)


def test_messages_speak_of_options(tmp_path):
    assert cli.spoken("is here; mode='w' replaces it") == "is here; --overwrite replaces it"
    assert (
        cli.spoken("it already exists: overwrite=True (--overwrite) replaces it")
        == "it already exists: --overwrite replaces it"
    )
    assert cli.spoken("give bbox=(lo, hi), or objects=") == "give --bbox (lo, hi), or --object"
    assert cli.spoken("aggregate['fa'] must be None") == "--aggregate fa= must be None"
    assert cli.spoken("[Errno 2] No such file: 'a'") == "No such file: 'a'"
    assert cli.spoken("as in projection='xy'") == "as in --projection xy"
    assert cli.spoken("at https://host/x?level=3&where=a") == "at https://host/x?level=3&where=a"


def test_version_costs_no_import_of_what_reads_stores():
    code = "import sys; from zarr_vectors_lazy.cli.main import main\ntry: main(['--version'])\n"
    code += "except SystemExit: print(sorted({'numpy', 'dask', 'zarr', 'xarray', 'rich'} & sys.modules.keys()))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"zvl {zvl.__version__}", "[]"]


@pytest.mark.parametrize(
    "box", [BOX, BOX.replace(",", " "), "(84, 100, 78), (92, 112, 88)", "84,100,78:92,112,88", "84:92,100:112,78:88"]
)
def test_a_box_is_read_as_people_write_it(zvl_run, tracts, box):
    assert "3 of 16" in zvl_run("explain", tracts, "--bbox", box)[1]


@pytest.mark.parametrize(
    "words", [["-b", BELOW], [f"-b={BELOW}"], [f"-b{BELOW}"], ["--bbox", BELOW], [f"--bbox={BELOW}"]]
)
def test_numbers_below_zero_are_no_options(zvl_run, tracts, words):
    assert "12 of 16" in zvl_run("explain", tracts, *words)[1]


def test_ids_may_be_joined(zvl_run, tracts):
    joined = zvl_run("explain", tracts, "--object", "4,5")[1]
    assert joined == zvl_run("explain", tracts, "--object", "4", "--object", "5")[1]


def test_version_costs_little():
    """CPU time of the whole process, in which the interpreter starts in 0.02 s, or on a slow machine in more."""
    whole, start = cpu_time("-m", "zarr_vectors_lazy.cli.main", "--version"), cpu_time("-c", "")
    assert whole <= max(0.3, 15 * start)


def cpu_time(*words):
    """Seconds of a process of Python: the least of several, as machines are shared."""
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(took)


def test_each_word_is_found_in_its_module(zvl_run):
    listed = {command.callback.__name__ for command in cli.application().registered_commands}
    assert listed == set(cli.WORDS)
    for word, module in cli.WORDS.items():
        (one,) = cli.application(word).registered_commands
        assert (one.name, one.callback.__module__.rpartition(".")[2]) == (word, module)
    code, out, _ = zvl_run("-h")
    assert (code, all(word in out for word in ("--version", "ingest", "view"))) == (0, True)
    assert zvl_run()[1] == out


def test_consolidate_makes_one_request_enough(zvl_run, tmp_path, goldens):
    copy = Copy.of(goldens["tracts-0.9"], tmp_path)
    assert zvl_run("consolidate", copy.path)[0] == 0
    with counting() as counts:
        zvl.open_zv(copy.path)
    assert counts.keys == ["zarr.json"]


def test_plot_leaves_a_picture(zvl_run, tracts, tmp_path):
    code, _, err = zvl_run("plot", tracts, tmp_path / "a.png", "-c", "arc_length", "-p", "yz", "-b", BOX)
    assert code == 0
    assert "244 vertices" in err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "nothing is selected" in zvl_run("plot", tracts, tmp_path / "b.png", "-b", "0,0,0,1,1,1")[2]


def test_files_in_and_out(zvl_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (tmp_path / f"n{number}.swc").write_text(f"1 1 {number} 0 0 1 -1\n2 3 {number} 5 0 1 1\n")
    code, _, err = zvl_run("ingest", "n*.swc", "n.zv", "--unit", "um", "--chunk-shape", "50")
    assert (code, err.splitlines()[-1]) == (0, "n.zv: 6 vertices (skeleton) in 1 chunk")
    assert zvl.open_zv("n.zv")[0].objects.attributes["name"].values.tolist() == ["n0.swc", "n1.swc", "n2.swc"]
    done = json.loads(zvl_run("read", "n.zv", "n.csv", "--json", "--columns", "radius")[1])
    assert done["left_out"] == ["edges", "object attribute name"]
    code, _, err = zvl_run("read", "n.zv", "n.csv")
    assert (code, err) == (2, "zvl: 'n.csv' already exists: --overwrite replaces it\n")
    code, _, err = zvl_run("read", "n.zv", "n.csv", "--overwrite", "--stored")
    assert (code, err.splitlines()[0]) == (0, "zvl: warning: left out: edges, object attribute name")
    code, _, err = zvl_run("ingest", "n.csv", "n0.swc", "two.zv")
    assert code == 2
    assert "a store holds files of one kind" in err
    (tmp_path / "bad.trk").write_bytes(b"TRACK")
    code, _, err = zvl_run("ingest", "bad.trk", "bad.zv")
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("zvl: bad.trk")


def test_a_file_to_standard_output(tracts):
    words = [sys.executable, "-m", "zarr_vectors_lazy.cli.main", "read", str(tracts), "-", "-b", BOX]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    head, *lines = done.stdout.splitlines()
    assert (head.split(",")[:3], len(lines)) == (["x", "y", "z"], 244)


def test_a_picture_without_matplotlib_says_what_to_install(zvl_run, tracts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = zvl_run("plot", tracts, tmp_path / "a.png")
    assert (code, err.count("\n"), "pip install 'zarr-vectors-lazy[plot]'" in err) == (2, 1, True)


def test_a_file_from_standard_input(tmp_path):
    words = [sys.executable, "-m", "zarr_vectors_lazy.cli.main", "ingest", "-", str(tmp_path / "s"), "--format", "tsv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, input="x\ty\tz\n1\t2\t3\n")
    assert done.stderr == f"{tmp_path / 's'}: 1 vertex (points) in 1 chunk\n"
    assert zvl.open_zv(tmp_path / "s")[0].vertices.compute().tolist() == [[1, 2, 3]]


def test_what_is_wrong_with_standard_input_is_said_of_it(tmp_path):
    words = [sys.executable, "-m", "zarr_vectors_lazy.cli.main", "ingest", "-", str(tmp_path / "s"), "--format", "csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, input="a,b\n1,2\n")
    assert (done.returncode, done.stderr.startswith("zvl: standard input: expected columns x, y")) == (2, True)


def test_output_that_is_closed_or_full_is_no_traceback(tracts):
    words = [sys.executable, "-m", "zarr_vectors_lazy.cli.main", "read", str(tracts), "-"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("x,y,z")
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, "Traceback" in said, "Exception" in said) == (0, False, False)
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (3, "zvl: No space left on device")


def test_a_box_that_holds_nothing_is_said(zvl_run, tracts, tmp_path):
    code, _, err = zvl_run("read", tracts, tmp_path / "out.csv", "--bbox", "1 2 3 4 5 6")
    assert (code, "nothing is selected; zvl info shows the bounds" in err) == (0, True)


def test_sketch_shows_where_chunks_are(tracts):
    level = zvl.open_zv(tracts)[0]
    lines = sketch(level).splitlines()
    assert lines[-1] == "occupied chunks: x to the right, y up"
    columns = {key[:2] for key in level.chunk_keys}
    assert sum(line.count(" ") < len(line) for line in lines[:-1]) == len({y for _, y in columns})
    assert sum(len(line.replace(" ", "")) for line in lines[:-1]) == 2 * len(columns)


def test_script_is_declared():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"zvl": f"{run.__module__}:{run.__name__}"}


def test_help_names_every_word(zvl_run):
    code, out, _ = zvl_run("--help")
    assert code == 0
    for word in ("info", "ls", "read", "explain", "validate", "cost", "cors", "index", "plot", "serve", "view"):
        assert f"  {word} " in out


def test_summaries_are_whole_at_80_columns(zvl_run, tracts, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["--help"], ["info", tracts], ["ls", tracts], ["cost", tracts], ["validate", tracts]):
        lines = zvl_run(*words)[1].splitlines()
        assert [line for line in lines[1:] if line.endswith("...") or "…" in line] == []
        assert [line for line in lines if len(line) > 80 and str(tracts) not in line] == []


def test_many_attributes_are_wrapped_where_no_terminal_is(zvl_run, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    names = [f"dimension_{number:02}" for number in range(30)]
    crs = {"space": "an atlas", "affine": list(range(60))}
    values = {name: [1] for name in names}
    zvl.write_points(tmp_path / "s", np.zeros((1, 3)), chunk_shape=1, vertex_attributes=values, crs=crs)
    out = zvl_run("info", tmp_path / "s")[1]
    assert [line for line in out.splitlines()[1:] if len(line) > 80] == []
    assert all(name in out for name in (*names, "space an atlas, affine [0, 1,"))
    zvl.write_points(
        tmp_path / "t", np.zeros((1, 3)), chunk_shape=1, crs={"name": "a grid", "epsg": 7, "wkt": "a" * 90}
    )
    assert "crs             a grid, EPSG 7\n" in zvl_run("info", tmp_path / "t")[1]


def test_info_keeps_digits_and_units(zvl_run, tmp_path):
    corners = np.array([[500012.25, 4212345.75], [500013.5, 4212346.25]])
    zvl.write_points(tmp_path / "s", corners, chunk_shape=50, axes=("x", "y"), units="metre", dtype="float64")
    out = zvl_run("info", tmp_path / "s")[1]
    assert "x  500012.25 to 500013.5 metre" in out
    assert "y  4212345.75 to 4212346.25 metre" in out
    assert "chunk shape     50, 50 metre" in out


def test_validate_ends_with_what_it_found(zvl_run, tmp_path, goldens):
    copy = Copy.of(goldens["tracts-0.9"], tmp_path)
    assert zvl_run("validate", copy.path)[0] == 0
    copy.remove(copy.key("1/vertices", copy.listed("1/vertices")[0]))
    code, out, _ = zvl_run("validate", copy.path, "--json", "--scheduler", "sync")
    assert code == 1
    report = json.loads(out)
    assert not report["ok"]
    assert any(finding["where"].startswith("1/vertices") for finding in report["findings"])


def test_cost_and_cors(zvl_run, tracts):
    cost = zvl.open_zv(tracts).cost(storage=2.0)
    found = json.loads(zvl_run("cost", tracts, "--storage", 2.0, "--json")[1])
    assert (found["nbytes"], found["month"]) == (cost.nbytes, cost.month)
    assert str(cost) in zvl_run("cost", tracts, "--storage", 2.0)[1]
    assert json.loads(zvl_run("cors", "gcs", "--origin", "https://example.org")[1]) == zvl.cors(
        "gcs", origins=["https://example.org"]
    )
    assert zvl_run("cors", "ftp")[0] == 2


def test_example_copies_a_store_or_lists_them(zvl_run, tmp_path):
    assert [line.split()[0] for line in zvl_run("example")[1].splitlines()] == zvl.example()
    code, out, _ = zvl_run("example", "cloud", tmp_path / "mine")
    assert (code, out.strip()) == (0, str(tmp_path / "mine"))
    assert zvl_run("info", tmp_path / "mine")[0] == 0


def test_index_stamps_counts(zvl_run, tmp_path, goldens):
    copy = Copy.of(goldens["tracts-0.9"], tmp_path)
    assert json.loads(zvl_run("index", copy.path, "--json")[1]) == {"0": 5261, "1": 141, "2": 40}
    assert zvl.open_zv(copy.path)[0].vertices.shape == (5261, 3)


def test_a_file_becomes_a_store_with_levels(zvl_run, tracts, tmp_path):
    table, store = tmp_path / "a.csv", tmp_path / "a.zarrvectors"
    zvl_run("read", tracts, table)
    words = ["ingest", table, store, "--chunk-shape", "12", "--bin-shape", "1.5,1.5,1.5", "--unit", "millimeter"]
    assert json.loads(zvl_run(*words, "--json")[1])["vertex_count"] == 5261
    assert zvl_run(*words)[0] == 3  # it is there
    assert zvl_run(*words, "--overwrite")[0] == 0
    assert json.loads(zvl_run("pyramid", store, "-f", "2", "-f", "2:1", "--json")[1])["levels_created"] == 2
    assert zvl.open_zv(store).levels == [0, 1, 2]
    assert zvl.open_zv(store).units == ("millimeter",) * 3
    assert zvl_run("pyramid", store, "-f", "half")[0] == 2


def test_levels_as_the_options_say(zvl_run, tmp_path):
    table, store = tmp_path / "a.csv", tmp_path / "a.zarrvectors"
    rows = np.random.default_rng(0).random((5000, 4)) * 100
    np.savetxt(table, rows, "%g", delimiter=",", header="x,y,z,size", comments="")
    assert zvl_run("ingest", table, store)[0] == 0  # chunks and bins are suggested
    level = zvl.open_zv(store)[0]
    assert (level.chunk_shape / level.bin_shape).tolist() in ([8] * 3, [16] * 3, [32] * 3)
    code, _, said = zvl_run("pyramid", store, "-f", "2", "-f", "2,2,1:4", "--chunk-scale", "1", "--seed", "3")
    assert (code, "2 levels of " in said) == (0, True)
    levels = list(zvl.open_zv(store))
    assert [found.chunk_shape.tolist() for found in levels] == [level.chunk_shape.tolist()] * 3
    assert (levels[2].bin_shape / levels[1].bin_shape).tolist() == [2, 2, 1]
    words = ["pyramid", store, "-f", "2", "--overwrite", "--sparsity", "2", "--links", "none"]
    code, _, said = zvl_run(*words, "--aggregate", "size=none", "--chunk-scale", "2,2,4")
    assert (code, "left out: vertex_attributes/size" in said) == (0, True)
    built = zvl.open_zv(store)[1]
    assert (built.attribute_names, built.deltas) == (("count",), ())
    assert (built.chunk_shape / level.chunk_shape).tolist() == [2, 2, 4]
    assert built.attributes["count"].compute().sum() == round(level.vertex_count / 2)
    for wrong in (["--aggregate", "mean"], ["--links", "all"], ["-f", "2:1,2"]):
        assert zvl_run("pyramid", store, "-f", "2", "--overwrite", *wrong)[0] == 2


def test_a_store_of_0_7_becomes_one_of_0_9(zvl_run, goldens, tmp_path):
    counts = zvl_run("migrate", goldens["cloud-0.7"].path, tmp_path / "new.zarrvectors", "--json")[1]
    assert json.loads(counts) == {"0": 4945, "1": 127, "2": 44}
    assert zvl.open_zv(tmp_path / "new.zarrvectors").format_version.startswith("0.9")


def test_a_store_is_sharded_and_unpacked(zvl_run, goldens, tmp_path):
    copy = tmp_path / "copy.zarrvectors"
    shutil.copytree(goldens["tracts-0.9"].path, copy)
    before = zvl.open_zv(copy)[0].vertices.compute()
    done = json.loads(zvl_run("shard", copy, "--shape", "4", "--json")[1])
    assert done["0/vertices"] < 16
    code, _, said = zvl_run("shard", copy, "--unpack")
    assert (code, said.count("\n"), f"the cells of {len(done)} arrays are now" in said) == (0, 1, True)
    assert (zvl.open_zv(copy)[0].vertices.compute() == before).all()
    for words in ([], ["--shape", "4", "--unpack"], ["--shape", "half"]):
        assert zvl_run("shard", copy, *words)[0] == 2


def test_a_store_with_other_codecs(zvl_run, tracts, tmp_path):
    copy = tmp_path / "copy.zarrvectors"
    code, _, said = zvl_run("recompress", tracts, copy, "--codec", "none", "--no-checksum", "--shard", "2")
    assert (code, "cells in" in said) == (0, True)
    assert zvl.open_store(copy).zarr_group["0/vertices"].shards == (2, 2, 2)
    code, out, _ = zvl_run("recompress", tracts, copy, "--profile", "viewer", "--overwrite", "--json")
    assert json.loads(out)["left_out"] == []
    assert zvl.open_store(copy).zarr_group["0/vertices"].shards is None
    assert zvl_run("recompress", tracts, copy)[0] == 3
    assert zvl_run("recompress", tracts, copy, "--shard", "half")[0] == 2
    assert zvl_run("recompress", tracts, copy, "--codec", "lz4", "--overwrite")[0] == 2


def test_a_selection_becomes_a_store(zvl_run, tracts, tmp_path):
    code, _, err = zvl_run("save", tracts, tmp_path / "short.zv", "--group", "short", "--where", "arc_length=5:")
    assert (code, "coarser levels (1, 2) are not copied; zvl pyramid builds them" in err) == (0, True)
    saved, level = zvl.open_zv(tmp_path / "short.zv")[0], zvl.open_zv(tracts)[0]
    expected = level.sel(groups=["short"], where={"arc_length": (5, None)}).vertices.compute()
    assert len(saved.vertices.compute()) == len(expected)
    assert zvl_run("save", tracts, tmp_path / "short.zv")[0] == 3, "it is there"
    assert zvl_run("save", tracts, tmp_path / "short.zv", "--overwrite", "--level", "2", "--json")[0] == 0


def test_save_counts_what_every_geometry_has(zvl_run, neuron, tmp_path):
    ends = np.arange(12.0).reshape(2, 2, 3)
    zvl.write_lines(tmp_path / "lines.zv", ends, chunk_shape=50)
    zvl.write_mesh(tmp_path / "mesh.zv", ends.reshape(4, 3), [[0, 1, 2], [1, 2, 3]], chunk_shape=50)
    for path, said in ((neuron, "vertices"), (tmp_path / "lines.zv", "2 lines"), (tmp_path / "mesh.zv", "4 vertices")):
        code, _, err = zvl_run("save", path, tmp_path / f"saved-{path.name}")
        assert code == 0
        assert said in err


@pytest.mark.parametrize(
    ("old", "new", "own", "expected"),
    [
        ("s3://a/b", "here.zv", None, {}),
        ("s3://a/b", "s3://c/d", None, {"backend": "obstore", "storage_options": {"region": "x"}}),
        ("a.zv", "s3://c/d", ["region=y"], {"storage_options": {"region": "y"}}),
    ],
)
def test_options_go_where_they_belong(old, new, own, expected):
    place = NewPlace(backend="obstore", option=["region=x"], new_option=own)
    assert place.new(old, new) == expected


@pytest.mark.parametrize(
    ("words", "place", "left"),
    [
        (["save", "{tracts}", "{new}"], (zvl.ZVLevel, "save"), "nothing was written to {new}"),
        (["rechunk", "{tracts}", "{there}", "--chunk-shape", "9"], (make, "rechunked"), "{there} opens, with level 0"),
        (
            ["ingest", "{tracts}", "{half}"],
            (make, "ingested"),
            "{half} is unfinished and cannot be opened: run the command again with --overwrite",
        ),
        (
            ["pyramid", "{there}", "-f", "2"],
            (make, "build_pyramid"),
            "its finished levels; run this again to continue",
        ),
        (["shard", "{there}", "--shape", "2"], (make.maintenance, "shard"), "{there} is intact"),
        (["info", "{there}"], (options, "open_zv"), "stopped: nothing was written"),
        (["info", "{there}"], (cli, "application"), "stopped: nothing was written"),
    ],
)
def test_an_interruption_tells_what_is_left(zvl_run, tracts, tmp_path, monkeypatch, words, place, left):  # noqa: PLR0917
    paths = {"tracts": tracts, "new": tmp_path / "new", "there": tmp_path / "there", "half": tmp_path / "half"}
    zvl.write_points(paths["there"], np.zeros((1, 3)), chunk_shape=5)
    zvl.write_points(paths["half"], np.zeros((1, 3)), chunk_shape=5)
    root = json.loads((paths["half"] / "zarr.json").read_text())
    root["attributes"] = {"zarr_vectors_lazy": {"state": "writing"}}
    (paths["half"] / "zarr.json").write_text(json.dumps(root))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(*place, interrupted)
    code, _, err = zvl_run(*(word.format(**paths) for word in words))
    assert code == 130
    assert left.format(**paths) in err
    assert err.strip().count("\n") == 0


def test_an_interruption_does_not_wait_for_a_silent_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # shells may ignore it
        start = "import runpy; runpy.run_module('zarr_vectors_lazy.cli.main', run_name='__main__')"
        words = [sys.executable, "-c", f"{listen}; {start}", "info", url]
        server.settimeout(HANGS_S)
        patient = {**os.environ, "DASK_ZARR_VECTORS_LAZY__READ_TIMEOUT": "1 h"}
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=patient) as command, server.accept()[0]:
            command.send_signal(signal.SIGINT)
            _, err = command.communicate(timeout=HANGS_S)
    assert (command.returncode, err) == (130, "zvl: stopped: nothing was written\n")


def test_an_interruption_that_python_drops_comes_again():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it comes while the test waits
            interrupt_again(SimpleNamespace(exc_type=KeyboardInterrupt))
            time.sleep(HANGS_S)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_store_with_other_chunks(zvl_run, cloud, tmp_path):
    new = tmp_path / "new.zarrvectors"
    code, _, said = zvl_run("rechunk", cloud, new, "--chunk-shape", "9000", "--bin-shape", "3000")
    assert (code, "coarser levels (1, 2) are not copied" in said) == (0, True)
    assert zvl.open_zv(new).chunk_shape.tolist() == [9000, 9000, 9000]
    assert zvl.open_zv(new)[0].vertices.compute().shape == (4946, 3)
    code, _, said = zvl_run("rechunk", cloud, new, "--chunk-shape", "6000", "--pyramid")
    assert (code, "is here already" in said, "zvl.build_pyramid(" in said) == (3, True, True)
    code, _, said = zvl_run("rechunk", cloud, new, "--chunk-shape", "6000", "--pyramid", "--overwrite")
    assert (code, "2 levels built" in said, zvl.open_zv(new).levels) == (0, True, [0, 1, 2])
    assert zvl_run("rechunk", cloud, new)[0] == 2
    odd = shutil.copytree(cloud, tmp_path / "odd.zv")
    (odd / "parametric").mkdir()
    (odd / "parametric" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    code, _, said = zvl_run("rechunk", odd, new, "--chunk-shape", "9000", "--overwrite")
    assert (code, "warning: left out: parametric" in said) == (0, True)


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["root=720575940631797753"], [1]),
        (["root=720575940631797753:720575940631797753"], [1]),
        (["root=720575940631797752,7"], [0, 3]),
        (["root=[7]"], [3]),
        (["root=:7"], [3]),
        (["type=L4,Sst"], [0, 1]),
        (["type=M:"], [1, 2]),
        (['type=["a,b"]'], [2]),
        (['type="a,b"'], [2]),
        (["type=null"], [3]),
        (["fa=0.2:"], [1, 2]),
        (["fa=0.2:", "fa=:0.7"], [1]),
        (["fa=0.2:", "type=Sst"], [1]),
        (["on=true"], [0, 2]),
        (["on=False"], [1, 3]),
        (["code=5"], [1]),
    ],
)
def test_where(zvl_run, tmp_path, words, rows):
    values = {
        "root": np.array([720575940631797752, 720575940631797753, 720575940631797754, 7]),
        "type": ["L4", "Sst", "a,b", None],
        "fa": [0.1, 0.5, 0.9, np.nan],
        "on": [True, False, True, False],
        "code": ["3", "5", "7", ""],
    }
    zvl.write_points(tmp_path / "x", np.arange(8.0).reshape(4, 2), chunk_shape=3, vertex_attributes=values)
    given = [word for text in words for word in ("--where", text)]
    assert zvl_run("read", tmp_path / "x", tmp_path / "x.npz", *given)[0] == 0
    with np.load(tmp_path / "x.npz") as found:
        assert sorted(found["vertices"][:, 0].tolist()) == [2.0 * row for row in rows]


HOSTILE = "\x1b[31mred\x9b2J\x7f\u202e<b>\n [b]"
MOVING = "\x1b\x9b\x7f\u202e"


@pytest.fixture
def hostile(tmp_path):
    """Return a store whose names would move a terminal's cursor."""
    where = tmp_path / "h\x1b[2J\u202e.zarrvectors"
    attributes = {"I [a.u.]": [1.0, 2.0], "I [red]": [3.0, 4.0], "evil": [5.0, 6.0]}
    groups = {"left [/b]": [0], "evil": [1]}
    axes = ("evil", "y", "x")
    zvl.write_points(
        where,
        np.zeros((2, 3)),
        chunk_shape=5,
        axes=axes,
        object_ids=[0, 1],
        groups=groups,
        vertex_attributes=attributes,
    )
    for document in where.rglob("zarr.json"):  # our writers refuse such names
        document.write_text(document.read_text().replace('"evil"', json.dumps(HOSTILE)))
    root = json.loads((where / "zarr.json").read_text())
    root["attributes"]["zarr_vectors"]["crs"] = {"name": HOSTILE}
    (where / "zarr.json").write_text(json.dumps(root))
    (where / "0/vertex_attributes/evil").rename(where / "0/vertex_attributes" / HOSTILE)
    return where


SHOWING = [["info"], ["ls"], ["explain"], ["explain", HOSTILE], ["validate"], ["cost"]]
WORDS = [*SHOWING, *([*words, "--json"] for words in SHOWING), ["index"], ["consolidate"]]


@pytest.mark.parametrize("word", WORDS, ids=" ".join)
def test_names_in_a_store_are_letters(hostile, zvl_run, word):
    _, out, error = zvl_run(word[0], hostile, *word[1:])
    assert not any(letter in out + error for letter in MOVING)
    assert " [b]" not in {line[:4] for line in out.splitlines()}, "a name is one line"
    if "--json" in word:
        assert json.loads(out)
    if word == ["ls"]:
        assert "I [a.u.]" in out
        assert "I [red]" in out
        assert "left [/b]" in out
        assert "\\x1b[31mred\\x9b2J\\x7f\\u202e<b>\\n [b]" in out


def test_texts_of_a_store_move_no_cursor(hostile):
    store = zvl.open_zv(hostile)
    texts = [
        store,
        store[0],
        store[0].attributes,
        store[0].objects,
        store[0].objects.groups,
        zvl.validate(hostile),
        store.cost(),
        store[0].explain(HOSTILE),
        store[0].attributes[HOSTILE],
    ]
    assert not [text for text in map(repr, texts) if any(letter in text for letter in MOVING)]
    pages = [each._repr_html_() for each in texts if hasattr(each, "_repr_html_")][:-1]  # the last is Dask's
    assert len(pages) == len(texts) - 1
    assert not [page for page in pages if "<b>\\n" in page or any(letter in page for letter in MOVING)]


def test_only_one_function_prints_names():
    """Every other `print` of the command line would let control characters through."""
    printing = [
        line.strip()
        for file in (ROOT / "zarr_vectors_lazy/cli").glob("*.py")
        for line in file.read_text().splitlines()
        if re.search(r"(?<![\w.])print\(|echo\(", line) and "printable(" not in line
    ]
    assert printing == ['print(f"zvl {__version__}")']


def test_export_writes_what_is_selected_for_neuroglancer(zvl_run, tracts, tmp_path):
    out = tmp_path / "out"
    code, _, err = zvl_run("export", tracts, out, "--precomputed", "skeletons", "--sharded", "--scheduler", "sync")
    assert (code, err) == (0, f"{out}: 110 skeletons in 3 files, 217,251 bytes\n")
    assert zvl_run("export", tracts, out, "--precomputed", "skeletons") == (
        2,
        "",
        f"zvl: {out} already has an info file: --overwrite replaces it\n",
    )
    code, text, _ = zvl_run("export", tracts, out, "--precomputed", "lines", "--object", 3, "--overwrite", "--json")
    assert (code, json.loads(text)["count"]) == (0, 1)
    assert json.loads((out / "info").read_text())["annotation_type"] == "polyline"
    code, _, err = zvl_run("export", tracts, tmp_path / "other", "--precomputed", "mesh")
    assert (code, err) == (2, "zvl: level 0 has no mesh: it has lines, skeletons, points\n")
