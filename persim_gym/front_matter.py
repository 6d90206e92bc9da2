"""The header of a card: YAML between two lines of `---`, which model hubs read, before the page that people read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

LIBRARY = "persim_gym"
_LINE = "---"
_LICENSES = {"mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "gpl-3.0"}
"""Identifiers of licences as model hubs have them; others are given by name."""


def front_matter(fields: Mapping[str, Any]) -> str:
    """The header, ending in an empty line.

    Args:
        fields: JSON-plain values, each written as JSON, which is YAML too.
    """
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join([_LINE, *lines, _LINE, "", ""])


def without_front_matter(page: str) -> str:
    """A page as people read it; a page without a header stays as it is."""
    head, line, body = page.partition(f"\n{_LINE}\n")
    return body.lstrip("\n") if line and head.startswith(f"{_LINE}\n") else page


def card_fields(license: str, tags: Sequence[str]) -> dict[str, Any]:
    """Fields that cards of models and of datasets share.

    Args:
        license: As a person writes it, such as "MIT"; empty where it is not stated.
        tags: What the card is to be found by, beside our own.
    """
    known = license.lower()
    if known in _LICENSES:
        stated = {"license": known}
    elif known in ("", "not stated", "unknown"):
        stated = {"license": "unknown"}
    else:
        stated = {"license": "other", "license_name": license}
    return {**stated, "tags": [LIBRARY, "reinforcement-learning", "gymnasium", *tags]}
