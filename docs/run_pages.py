"""Runs the code on pages of the documentation, and compares what it prints with what the page shows.

    python docs/run_pages.py docs/tutorials/train.md            # says where the page is wrong
    python docs/run_pages.py --write docs/tutorials/train.md    # writes what was printed into the page

The `python` blocks of a page run in order, in one process and in an empty folder; so do the `persim` commands of its
`bash` blocks. A `text` block right after one holds what it prints; `sh` blocks are commands that are only shown. A
comment on the line before a block says more:

    <!-- not run: it needs a screen -->                 the reason why a block is not run
    <!-- numbers within 30 %: training differs -->      how far the numbers of a `text` block may be off

Pictures that a page shows, and that its code wrote under the same file name, are copied into docs/ by `--write`.
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"^(?:<!-- (?P<note>.*?) -->\n)?(?P<fence>`{3,})(?P<language>\w*)\n(?P<code>.*?)^(?P=fence)$", re.M | re.S
)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
RULE = re.compile("[━─┏┓┗┛┳┻┡┩╇┴└┘]+")
WITHIN = re.compile(r"numbers within (\d+) %")
RUN = ("python", "bash")
"""Languages of blocks that are run."""
WIDTH = 80
"""Characters that printed tables may take."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        language: What stands behind the fence.
        code: What stands inside.
        note: The comment on the line before, or empty.
        line: Line of the page on which the code begins.
        span: Where the code stands in the page's text.
        gap: What stands between this block and the one before.
    """

    language: str
    code: str
    note: str
    line: int
    span: tuple[int, int]
    gap: str

    @property
    def runs(self) -> bool:
        """Whether its code is run."""
        return self.language in RUN and not self.note.startswith("not run: ")

    @property
    def tolerance(self) -> float:
        """How far, as a share, numbers that are printed may be off."""
        match = WITHIN.match(self.note)
        return int(match[1]) / 100 if match else 0.0


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    blocks, end = [], 0
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        gap = text[end : match.start()]
        code, span = match["code"], match.span("code")
        blocks.append(Block(match["language"], code, match["note"] or "", line, span, gap))
        end = match.end()
    return blocks


def differs(printed: str, shown: str, tolerance: float) -> bool:
    """Whether what was printed is not what a page shows.

    Words have to be the same, spaces do not count. Numbers may be off by a share `tolerance`, or by one in the last
    place that the page shows, where there is a tolerance at all.
    """
    if not tolerance:
        return printed.split() != shown.split()
    words = [RULE.sub("-", NUMBER.sub("#", text)).split() for text in (printed, shown)]
    if words[0] != words[1]:
        return True
    return any(
        abs(_value(a) - _value(b)) > max(tolerance * abs(_value(b)), _unit(b))
        for a, b in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    )


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _unit(number: str) -> float:
    """One in the last place that a number shows."""
    digits, _, power = number.partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def run(text: str, name: str, check: Callable[[Block, Block, str], None]) -> None:
    """Runs the blocks of a page in the current folder.

    Args:
        text: The page.
        name: What tracebacks call it.
        check: Is given a block that was run, the `text` block right after it, and what was printed.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = blocks_of(text)
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if not block.runs:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if block.language == "python":
                # Blank lines in front, so that tracebacks tell the page's own lines.
                exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), names)
            else:
                for command in _commands(block.code):
                    _persim(command)
        if after is not None and after.language == "text" and not after.gap.strip():
            check(block, after, _without_places(printed.getvalue()))


def _without_places(printed: str) -> str:
    """What was printed, with the variables that name folders instead of these folders."""
    for name in ("PERSIM_HOME", "MINARI_DATASETS_PATH"):
        printed = printed.replace(os.environ[name], f"${name}")
    return printed.replace(f"{Path.cwd()}/", "")


def _commands(code: str) -> Iterator[list[str]]:
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            if words[0] != "persim":
                raise ValueError(f"only persim is run here, not {words[0]!r}; mark the block: <!-- not run: ... -->")
            yield words[1:]


def _persim(words: list[str]) -> None:
    from persim_gym.cli import app

    status = app(words, standalone_mode=False)
    if status:
        raise RuntimeError(f"persim {shlex.join(words)} ended with status {status}")


def check_page(path: Path) -> None:
    """Runs a page and compares.

    Raises:
        AssertionError: If something else is printed than the page shows.
    """

    def check(block: Block, shown: Block, printed: str) -> None:
        remedy = f"write it: python docs/run_pages.py --write {path}"
        said = f"{path}, line {shown.line}: the code above prints\n{printed}\n{remedy}"
        assert not differs(printed, shown.code, shown.tolerance), said

    run(path.read_text(encoding="utf-8"), str(path), check)


def write_page(path: Path) -> None:
    """Runs a page, and writes what was printed and the pictures that it shows."""
    text = path.read_text(encoding="utf-8")
    found: list[tuple[Block, str]] = []
    run(text, str(path), lambda block, shown, printed: found.append((shown, printed)))
    for shown, printed in reversed(found):
        start, end = shown.span
        lines = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
        text = text[:start] + lines + "\n" + text[end:]
    path.write_text(text, encoding="utf-8")
    for link in re.findall(r"!\[[^]]*\]\(([^)]+\.png)\)", text):
        if Path(Path(link).name).is_file():
            shutil.copy(Path(link).name, path.parent / link)


def main() -> None:
    """Runs the pages that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write what is printed into the pages")
    parser.add_argument("pages", nargs="+", type=Path)
    given = parser.parse_args()
    os.environ["COLUMNS"] = str(WIDTH)
    for path in map(Path.resolve, given.pages):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            os.environ |= {"PERSIM_HOME": f"{folder}/home", "MINARI_DATASETS_PATH": f"{folder}/datasets"}
            (write_page if given.write else check_page)(path)
            os.chdir(ROOT)
        print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
