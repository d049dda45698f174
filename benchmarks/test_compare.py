"""The comparison of two checkouts runs, small."""

import math

from benchmarks import compare


def test_a_checkout_is_compared_with_itself(capsys):
    compare.main([str(compare.ROOT), "--rounds", "1", "--rows", "1000", "--only", "open"])
    *_, line = capsys.readouterr().out.splitlines()
    name, old, new, ratio = line.strip("| ").split(" | ")
    assert name == "open"
    assert min(float(old), float(new), float(ratio)) > 0


def test_what_a_checkout_cannot_do_is_told(tmp_path, capsys):
    assert math.isnan(compare.apart("zvl.no_such_name()", tmp_path, compare.ROOT))
    assert "no_such_name" in capsys.readouterr().err
