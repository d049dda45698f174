"""What `mkdocs build` adds: the page of the command line, from the help of each command; a 404 page for any address."""

import re
from typing import Any

import typer.cli
import typer.main

from zarr_vectors_lazy.cli.main import application

MARK = "<!-- the commands -->"
BASE = """<script>{
  // A server shows this page at any depth, and the site may be in a folder there, or on disk.
  const here = root => {
    const request = new XMLHttpRequest()
    request.open("HEAD", new URL("objects.inv", root), false)
    request.send()
    return request.status === 200
  }
  let root = new URL(".", location)
  while (location.protocol !== "file:" && root.pathname !== "/" && !here(root)) root = new URL("..", root)
  const base = document.createElement("base")
  base.href = root
  document.head.append(base)
}</script>"""
CONFIG = """<script>{
  const config = document.getElementById("__config")
  config.textContent = JSON.stringify({...JSON.parse(config.textContent), base: document.baseURI})
}</script>"""
CHARSET, BUNDLE = '<meta charset="utf-8">', '<script src="./assets/javascripts/bundle'
PUT = {CHARSET: CHARSET + BASE, 'new URL(".",location)': "new URL(document.baseURI)", BUNDLE: CONFIG + BUNDLE}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of every command where a page has the mark."""
    if MARK not in markdown:
        return markdown
    command = typer.main.get_command(application())
    context = command.make_context("zvl", ["--version"], resilient_parsing=True)
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="zvl")
    text = text[text.index("## `zvl ") :]  # what goes before it is on the page already
    return markdown.replace(MARK, re.sub(r"\*\*Usage\*\*:\n\n", "", text))


def on_template_context(context: Any, *, template_name: str, **_: Any) -> Any:
    """Let the 404 page name its parts from the root of the site."""
    return {**context, "base_url": "."} if template_name == "404.html" else context


def on_post_template(output: str, *, template_name: str, **_: Any) -> str:
    """Let the 404 page find the root of the site."""
    if template_name != "404.html":
        return output
    for part, put in PUT.items():
        assert part in output, f"the theme has changed and has no {part}: look at 404.html"
        output = output.replace(part, put)
    return output
