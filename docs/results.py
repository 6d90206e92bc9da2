"""Writes results.md from the rows in results/, and fills the tables of all other pages anew.

python docs/results.py
"""

from pathlib import Path

from persim_gym.envs import DOMAINS
from persim_gym.reproduce.page import filled, results_page
from persim_gym.reproduce.pictures import PICTURES
from persim_gym.reproduce.results import read_results

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent


def captions() -> dict[str, str]:
    """Captions of the pictures that are there, by file name, in the thesis's order."""
    found = {}
    for name, picture in PICTURES.items():
        about = f"{picture.title} (thesis Figure {name}, p. {picture.page})" if picture.page else picture.title
        for part in ("", *(f"-{domain}" for domain in DOMAINS)):
            if (DOCS / "images" / "reproduce" / f"{name}{part}.png").exists():
                found[f"{name}{part}.png"] = f"{DOMAINS[part[1:]].title}: {about}" if part else about
    return found


def main() -> None:
    """Writes what has changed, and says so."""
    results = read_results(sorted((ROOT / "results").glob("reproduce*.csv")))
    pages = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))}
    new = {path: filled(text, results) for path, text in pages.items()}
    if results:
        new[DOCS / "results.md"] = results_page(results, figures=captions())
    for path, text in new.items():
        if text != pages.get(path):
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
