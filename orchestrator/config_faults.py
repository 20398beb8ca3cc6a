"""Turn pydantic's findings into lines an operator can act on.

Each names the file and line, the key, the value, what is allowed with its unit, and
what to do.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from orchestrator.yaml_file import KeyPath, YamlFile, dotted

UNITS: Mapping[str, str] = {
    "s": "s",
    "ms": "ms",
    "us": "us",
    "min": "min",
    "h": "h",
    "deg": "deg",
    "rad": "rad",
    "m": "m",
    "cm": "cm",
    "mm": "mm",
    "um": "um",
    "nm": "nm",
    "px": "px",
    "v": "V",
    "mv": "mV",
    "a": "A",
    "ma": "mA",
    "ua": "uA",
    "c": "C",
    "mc": "mC",
    "kev": "keV",
    "ev": "eV",
    "k": "K",
    "frac": "as a fraction",
    "bytes": "bytes",
    "counts": "counts",
    "deg_s": "deg/s",
    "mm_s": "mm/s",
    "hz": "Hz",
    "ma_cm2": "mA/cm2",
    "a_cm2": "A/cm2",
    "ua_cm2": "uA/cm2",
    "a_m2": "A/m2",
    "um3": "um3",
    "ohm_cm2": "ohm cm2",
    "gib": "GiB",
    "mpa": "MPa",
}

# Units of one kind, each with its size in the first of them.
_KINDS: tuple[Mapping[str, float], ...] = (
    {"s": 1, "ms": 1e-3, "us": 1e-6, "min": 60, "h": 3600},
    {"deg": 1, "rad": 57.29577951308232},
    {"m": 1, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "nm": 1e-9},
    {"v": 1, "mv": 1e-3},
    {"a": 1, "ma": 1e-3, "ua": 1e-6},
    {"c": 1, "mc": 1e-3},
    {"kev": 1, "ev": 1e-3},
    {"a_cm2": 1, "ma_cm2": 1e-3, "ua_cm2": 1e-6, "a_m2": 1e-4},
)
_SPELLINGS = {"µm": "um", "μm": "um", "µa": "ua", "μa": "ua", "°": "deg", "sec": "s"}


def fault_line(error: ErrorDetails, file: YamlFile, model: type[BaseModel]) -> str:
    """Return one line for one finding of pydantic."""
    key_path = tuple(error["loc"])
    line = file.line(key_path)
    where = f"{file.path}:{line}" if line else str(file.path)
    text = _fault(error, key_path, model)
    return f"{where}: {dotted(key_path)}{text}" if key_path else f"{where}{text}"


def _fault(error: ErrorDetails, key_path: KeyPath, model: type[BaseModel]) -> str:
    value = error["input"]
    name = str(key_path[-1]) if key_path else ""
    match error["type"]:
        case "extra_forbidden":
            known = _fields(_model_at(model, key_path[:-1]))
            return f": unknown key; {_advice(name, value, known)}"
        case "missing":
            field = _field_at(model, key_path)
            return f": missing; it is required{_meaning(field)}"
        case "value_error":
            message = error["msg"].removeprefix("Value error, ")
            return f": {message}"
    field = _field_at(model, key_path)
    shown = _shown(value)
    unit = unit_of(name)
    if isinstance(value, str) and (converted := _with_unit(value, name)):
        return f": {shown} is text; write the bare number in {unit}: {converted}"
    wanted = allowed(field, unit) or _said(error)
    return f": {shown} is not allowed; it must be {wanted}{_meaning(field)}"


def _shown(value: object) -> str:
    text = f"'{value}'" if isinstance(value, str) else f"{value}"
    if value is None:
        text = "nothing"
    if isinstance(value, Mapping | list):
        text = "a section" if isinstance(value, Mapping) else "a list"
    return text if len(text) <= 80 else text[:77] + "…"


def _said(error: ErrorDetails) -> str:
    message = error["msg"]
    for start in ("Input should be ", "Value should be "):
        message = message.removeprefix(start)
    return message[:1].lower() + message[1:]


def _meaning(field: FieldInfo | None) -> str:
    if field is None or not field.description:
        return ""
    return f" ({' '.join(field.description.split())})"


def allowed(field: FieldInfo | None, unit: str) -> str:
    """Return what a field allows, as words: its kind, bounds, unit or choices."""
    if field is None:
        return ""
    choices = list(_choices(field.annotation))
    if choices:
        return "one of " + ", ".join(choices)
    kinds = {kind for kind in _parts(field.annotation) if isinstance(kind, type)}
    words = []
    if kinds & {int, float}:
        words.append("a whole number" if float not in kinds else "a number")
        if unit:
            words[0] += f" in {unit}" if not unit.startswith("as") else f" {unit}"
    elif bool in kinds:
        return "true or false"
    elif str in kinds:
        words.append("text (put it in quotes)")
    for sign, word in (
        ("gt", "greater than"),
        ("ge", "at least"),
        ("lt", "less than"),
        ("le", "at most"),
    ):
        for limit in field.metadata:
            bound = getattr(limit, sign, None)
            if bound is not None:
                text = str(bound) if isinstance(bound, int) else f"{bound:g}"
                words.append(f"{word} {text}")
    for limit in field.metadata:
        pattern = getattr(limit, "pattern", None)
        if pattern:
            words.append(f"of the form {pattern}")
        longest = getattr(limit, "max_length", None)
        if longest is not None:
            words.append(f"at most {longest} long")
    if len(words) < 2:
        return words[0] if words else ""
    return words[0] + ", " + " and ".join(words[1:])


def _advice(name: str, value: object, known: list[str]) -> str:
    """Say what was probably meant by an unknown key."""
    stem, unit = _split(name)
    for other in known:
        other_stem, other_unit = _split(other)
        if other_stem == stem and other_unit and other_unit != unit:
            number = _converted(value, unit, other_unit)
            example = f"{other}: {number:g}" if number is not None else other
            return f"the unit is {UNITS[other_unit]}: write {example}"
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return "known here: " + ", ".join(known)


def _split(name: str) -> tuple[str, str]:
    """Split a key into what it names and its unit, ``""`` if it has none."""
    for suffix in sorted(UNITS, key=len, reverse=True):
        if name.endswith("_" + suffix):
            return name[: -len(suffix) - 1], suffix
    return name, ""


def unit_of(name: str) -> str:
    """Return the unit that a key carries, empty if it carries none."""
    stem, unit = _split(name)
    if stem.endswith("_per"):
        return f"1/{UNITS[unit]}"
    return UNITS.get(unit, "")


def _with_unit(text: str, name: str) -> str | None:
    """Return the number that a text such as ``200 ms`` means for the key `name`."""
    found = re.fullmatch(r"\s*([-+]?[0-9.,]+(?:[eE][-+]?[0-9]+)?)\s*(\S*)\s*", text)
    wanted = _split(name)[1]
    if found is None or not wanted:
        return None
    try:
        number = float(found[1].replace(",", "."))
    except ValueError:
        return None
    unit = found[2].lower()
    unit = _SPELLINGS.get(unit, unit).replace("/cm2", "_cm2").replace("/cm²", "_cm2")
    if not unit:
        return f"{name}: {number:g}"
    converted = _converted(number, unit, wanted)
    return None if converted is None else f"{name}: {converted:g}"


def _converted(value: object, unit: str, wanted: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for kind in _KINDS:
        if unit in kind and wanted in kind:
            return value * kind[unit] / kind[wanted]
    return None


def _fields(model: type[BaseModel] | None) -> list[str]:
    return list(model.model_fields) if model is not None else []


def _field_at(model: type[BaseModel], key_path: KeyPath) -> FieldInfo | None:
    """Return the field that a key path leads to, list items giving the list's."""
    names = [part for part in key_path if isinstance(part, str)]
    while names:
        owner = _model_at(model, tuple(names[:-1]))
        if owner is not None and names[-1] in owner.model_fields:
            return owner.model_fields[names[-1]]
        names = names[:-1]  # pydantic adds the member of a union that it tried
    return None


def _model_at(model: type[BaseModel], key_path: KeyPath) -> type[BaseModel] | None:
    here: type[BaseModel] | None = model
    for part in key_path:
        if not isinstance(part, str) or here is None:
            continue
        field = here.model_fields.get(part)
        if field is None:
            continue
        here = inner_model(field)
    return here


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds, None where it holds plain values."""
    return next(
        (
            kind
            for kind in _parts(field.annotation)
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ),
        None,
    )


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the plain types inside unions, lists and tuples."""
    if get_origin(annotation) in (Union, UnionType, list, tuple):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _choices(annotation: Any) -> Iterator[str]:
    for part in _parts(annotation):
        if str(get_origin(part)) == "typing.Literal":
            yield from (str(choice) for choice in get_args(part))
