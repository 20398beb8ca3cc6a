"""Write the tables of ``configuration.md`` from the models themselves.

Run ``python docs/generate_configuration.py`` after a setting was added or changed; a
test compares.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.config import Experiment
from orchestrator.config_faults import allowed, inner_model, unit_of

DOCUMENT = Path(__file__).with_name("configuration.md")
MARK = "<!-- generated below: docs/generate_configuration.py -->\n"


def tables() -> str:
    """Return a table for each section."""
    text = ""
    for name, field in Experiment.model_fields.items():
        model = inner_model(field)
        if model is None:
            continue
        text += f"\n## {name}\n{_summary(model)}\n"
        for part, rows in _rows(model, name):
            if part != name:
                text += f"\n### {part}\n"
            text += "\n| key | default | allowed | meaning |\n|---|---|---|---|\n"
            text += "".join(rows)
    return text


def _rows(model: type[BaseModel], name: str) -> Iterator[tuple[str, list[str]]]:
    notes = _notes(model)
    rows, inner = [], []
    for key, field in model.model_fields.items():
        below = inner_model(field)
        if below is not None:
            inner.append((f"{name}.{key}", below))
            continue
        meaning = field.description or notes.get(key, "")
        cells = (
            f"`{field.alias or key}`",
            _default(field),
            allowed(field, unit_of(key)).replace(" (put it in quotes)", ""),
            meaning.rstrip("."),
        )
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |\n")
    if rows:
        yield name, rows
    for part, below in inner:
        yield from _rows(below, part)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if value is None or value in ("", (), {}):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _notes(model: type[BaseModel]) -> dict[str, str]:
    """Return the texts that stand below the fields in the source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    notes: dict[str, str] = {}
    for field, note in zip(body, body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(note, ast.Expr)
            and isinstance(note.value, ast.Constant)
        ):
            notes[field.target.id] = str(note.value.value)
    return notes


if __name__ == "__main__":
    head = DOCUMENT.read_text().partition(MARK)[0]
    DOCUMENT.write_text(head + MARK + tables())
