"""What the site does beyond Markdown: pages made of the package, long tables folded, files from outside of docs/."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

import reference  # noqa: E402

OUTSIDE = {"contributing.md": ROOT / "CONTRIBUTING.md", "changelog.md": ROOT / "CHANGELOG.md"}
"""Pages of the site that lie outside of docs/."""
FOLDED = {"environments.md", "training.md", "rank-and-variants.md", "guard.md"}
"""Pages outside of Results whose long tables are folded, too."""
OVERVIEW = "findings.md"
"""Page of Results whose table is its contents, and stays open."""
LONG_TABLE = 10
"""Rows from which a table is folded."""
TABLE = re.compile(r"^(?:\|.*\n)+", re.M)
WHOLE = re.compile(r"(?<![`\w/-])pure-eps-\d+(?:-v0)?(?![\w`])|\([-+]?[\d.]+ to [-+]?[\d.]+\)")
"""What is not broken over lines of a table: names of data, and intervals."""


def on_files(files: Files, config: Any) -> Files:
    """Adds pages made of the package, and files from outside of docs/ that pages link to."""
    cards = {path.relative_to(DOCS / "datasets").with_suffix("").as_posix() for path in DOCS.glob("datasets/*/*.md")}
    made = dict(reference.pages(cards))
    for page, path in OUTSIDE.items():
        text = re.sub(r"\]\(docs/(\w[^)]*)", r"](\1", path.read_text(encoding="utf-8"))
        for name, other in OUTSIDE.items():
            text = text.replace(f"]({other.name}", f"]({name}")
        made[page] = text
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    for path in sorted((ROOT / "results").glob("*.csv")):
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points links out of docs/ at what the site has of it, and folds long tables of results."""
    for name, path in OUTSIDE.items():
        markdown = markdown.replace(f"](../{path.name}", f"]({name}")
    markdown = markdown.replace("](../results/", "](results/").replace("](../CHANGELOG.md", "](changelog.md")
    results = page.parent is not None and page.parent.title == "Results" and page.file.src_uri != OVERVIEW
    figures = results or page.file.src_uri in FOLDED
    return TABLE.sub(folded, markdown + "\n") if figures else markdown


def folded(table: re.Match[str]) -> str:
    """A table whose pairs, intervals and names stay on a line; behind a line to click on where it is long."""
    text = re.sub(r" ([/±]) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", table[0])
    text = WHOLE.sub(r'<span class="whole">\g<0></span>', text)
    rows = text.count("\n") - 2
    if rows < LONG_TABLE:
        return text
    inside = "".join(f"    {line}\n" for line in text.splitlines())
    return f'??? abstract "Show the table: {rows} rows"\n\n{inside}\n'
