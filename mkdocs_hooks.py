"""What `mkdocs build` makes of the package itself: the page of the command line, from the help of each command."""

import re
from typing import Any

import typer.cli
import typer.main

from zarr_vectors_lazy.cli.main import application

MARK = "<!-- the commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of every command where a page has the mark."""
    if MARK not in markdown:
        return markdown
    command = typer.main.get_command(application())
    context = command.make_context("zvl", ["--version"], resilient_parsing=True)
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="zvl")
    text = text[text.index("## `zvl ") :]  # what goes before it is on the page already
    return markdown.replace(MARK, re.sub(r"\*\*Usage\*\*:\n\n", "", text))
