"""Blocks of Python and of the command `zvl` in README and docs run, page by page, and print what the page shows."""

import contextlib
import glob
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import dask
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.cli import main as cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A block of Python or of commands, the line it begins on, and what the page says it prints (None: nothing)."""

    language: str
    line: int
    code: str
    printed: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = list(FENCE.finditer(text))
    result = []
    for match, following in zip(found, [*found, None][1:], strict=True):
        if match["language"] not in ("python", "sh") or match["reason"]:
            continue
        printed = following["code"] if following and following["language"] == "text" else None
        result.append(Block(match["language"], text[: match.start("code")].count("\n"), match["code"], printed))
    return result


def run_commands(code):
    """Run lines of ``zvl`` in this process: a new one each would take seconds."""
    for line in code.replace("\\\n", "").splitlines():
        word, *words = shlex.split(line, comments=True)
        assert word == "zvl", f"{line!r}: say why it is not run: <!-- not run: reason -->"
        words = [each for part in words for each in (sorted(glob.glob(part)) if "*" in part else [part])]
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert not ended.value.code, line


RUNNABLE = [page for page in PAGES if blocks(page)]


def name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    return [zvl.example(name, folder / f"{name}.zarrvectors") for name in zvl.example()]


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_blocks_run_and_print_what_the_page_says(page, tmp_path, monkeypatch, examples):
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    for store in examples if "zvl.example(" not in page.read_text() else ():
        (tmp_path / store.name).symlink_to(store)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {"__name__": "__main__"}
    for block in blocks(page):
        output = io.TextIOWrapper(io.BytesIO(), newline="")  # what a file to standard output wants
        two_cores = dask.config.set({"zarr_vectors_lazy.workers": 2})  # the pages' task counts are those of two
        with contextlib.redirect_stdout(output), two_cores:
            if block.language == "sh":
                run_commands(block.code)
            else:  # errors name the page's own line
                exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        output.flush()
        if block.printed is not None:
            assert output.buffer.getvalue().decode() == block.printed, f"{name(page)}, line {block.line}"


def test_every_block_of_a_page_is_closed_and_named():
    for page in PAGES:
        fences = [line for line in page.read_text().splitlines() if line.startswith("```")]
        assert len(fences) % 2 == 0, name(page)
        assert all(fence != "```" for fence in fences[::2]), name(page)


def test_pages_say_where_their_stores_come_from():
    uses = re.compile(r"[\"(](tracts|neuron|surface|cloud)\.zarrvectors")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = "".join(block.code for block in blocks(page) if block.language == "python")
        if uses.search(text) and "zvl.example(" not in text:
            assert "start/example_data.md" in page.read_text(), name(page)


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{name(page)}: {target}"


def test_reference_shows_every_public_name():
    shown = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    missing = [public for public in zvl.__all__ if not re.search(rf"^::: zarr_vectors_lazy\.{public}$", shown, re.M)]
    assert missing == []


def test_items_and_headings_begin_their_own_lines():
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        text = re.sub(r"^( *```).*?^\1$|`[^`\n]*`|^\|.*?$", "", page.read_text(), flags=re.M | re.S)
        joined = re.findall(r".*[.:;)] {1,2}(?:- [A-Z]|-$|#{2,}).*|^\w.*\n- .*", text, re.M)
        assert joined == [], f"{name(page)}: text that was refilled"
