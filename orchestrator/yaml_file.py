"""Read a YAML file into plain values, and remember on which line each key stands.

Stricter than YAML allows, so that what an operator wrote is what is read: a key given
twice is refused, so are anchors, aliases and tags; ``yes``, ``1:30`` and dates stay
text; ``1e-3`` is a number; numbers are finite.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from orchestrator.errors import ConfigurationError

KeyPath = tuple[str | int, ...]

SIZE_MAX_BYTES = 1_000_000
DEPTH_MAX = 20


@dataclass(frozen=True)
class YamlFile:
    """What a YAML file holds.

    Attributes
    ----------
    values : dict
        Plain dicts, lists, strings, numbers, booleans and None.
    lines : dict
        Line (counted from 1) of each key path.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, key_path: KeyPath) -> int | None:
        """Return the line of a key, or of the nearest key above it."""
        for end in range(len(key_path), 0, -1):
            if key_path[:end] in self.lines:
                return self.lines[key_path[:end]]
        return None


def read_yaml(path: Path) -> YamlFile:
    """Read one YAML document that is a mapping.

    Raises
    ------
    ConfigurationError
        The file is missing, is not YAML or is not a mapping.
    """
    text = _text(path)
    lines: dict[KeyPath, int] = {}
    faults: list[str] = []
    try:
        node = yaml.compose(text, Loader=_Loader)
        if isinstance(node, yaml.MappingNode):
            values = _plain(node, (), path, lines, faults)
            if faults:
                raise ConfigurationError(*faults)
            return YamlFile(path, values, lines)
    except yaml.YAMLError as error:
        raise ConfigurationError(_yaml_fault(path, error)) from error
    except RecursionError:
        raise ConfigurationError(
            f"{path}: nested too deeply to be an experiment"
        ) from None
    raise ConfigurationError(
        f"{path}: holds no mapping; an experiment's file has the sections "
        "experiment, cell, cycling, scan … (see examples/)"
    )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > SIZE_MAX_BYTES:
            raise ConfigurationError(
                f"{path}: larger than {SIZE_MAX_BYTES} bytes; not an experiment's file"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no such file; give the path of an experiment's YAML file"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2 and without aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to say it

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ComposerError(
                None, None, "an alias is not allowed here", event.start_mark
            )
        return super().compose_node(parent, index)


_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.I
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), None
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(_INT.pattern + "$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(f"({_FLOAT.pattern})$", re.I),
    list("-+0123456789."),
)


def _plain(
    node: yaml.Node,
    at: KeyPath,
    path: Path,
    lines: dict[KeyPath, int],
    faults: list[str],
) -> Any:
    if len(at) > DEPTH_MAX:
        raise ConfigurationError(f"{path}: nested too deeply to be an experiment")
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                faults.append(f"{path}:{line}: a key must be plain text")
                continue
            key = key_node.value
            here = (*at, key)
            if key in values:
                faults.append(
                    f"{path}:{line}: {dotted(here)} is given twice (first on line "
                    f"{lines[here]}); keep one"
                )
                continue
            lines[here] = line
            values[key] = _plain(value_node, here, path, lines, faults)
        return values
    if isinstance(node, yaml.SequenceNode):
        items: list[Any] = []
        for index, item in enumerate(node.value):
            here = (*at, index)
            lines[here] = item.start_mark.line + 1
            items.append(_plain(item, here, path, lines, faults))
        return items
    return _scalar(node, at, path, faults)


def _scalar(node: yaml.Node, at: KeyPath, path: Path, faults: list[str]) -> Any:
    text = str(node.value)
    line = node.start_mark.line + 1
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) < 25:
            return int(text)
        case "int" | "float":
            value = _float(text)
            if math.isfinite(value):
                return value
            faults.append(
                f"{path}:{line}: {dotted(at)} is {text}; a number must be finite"
            )
            return None
        case "str":
            return text
    faults.append(
        f"{path}:{line}: {dotted(at)} has the tag {node.tag}; write a plain value"
    )
    return None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # .inf and .nan
        return math.nan


def _yaml_fault(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
    return (
        f"{where}: not valid YAML ({problem}); write 'key: value' lines, indented "
        "with spaces"
    )


def dotted(key_path: KeyPath) -> str:
    """Return a key path as people write it: ``scan.exposure_time_s``."""
    text = ""
    for part in key_path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
