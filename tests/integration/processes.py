"""Fresh Python processes."""

import os
import subprocess
import sys
from pathlib import Path

from tests.bounds import HANGS_S

ROOT = Path(__file__).parents[2]


def run_python(code, *arguments, stdin="", **environment):
    """Standard output of a program in a fresh process; it must end well."""
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
