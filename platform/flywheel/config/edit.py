"""Change one key of a configuration file and nothing else: comments, order and layout stay as a person wrote them."""

from __future__ import annotations

import json

import yaml

from flywheel.errors import ConfigError


def with_filter_file(text: str, file: str) -> str:
    """The text of a configuration with ``quality.filter_file`` set.

    Raises:
        ConfigError: the section is not a mapping; says which line to write.
    """
    value = json.dumps(file)  # is YAML too, whatever is in the name
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    section = _value(root, "quality")
    if root is None or (section is None and isinstance(root, yaml.MappingNode) and not root.flow_style):
        return f"{text.rstrip()}\n".lstrip("\n") + f"quality:\n  filter_file: {value}\n"
    if not isinstance(section, yaml.MappingNode) or not section.value:
        raise ConfigError(f"the section 'quality' cannot be changed from here; write in it: filter_file: {value}")
    known = _value(section, "filter_file")
    if known is not None:
        return text[: known.start_mark.index] + value + text[known.end_mark.index :]
    first = section.value[0][0].start_mark
    gap = ", " if section.flow_style else "\n" + " " * first.column
    return f"{text[: first.index]}filter_file: {value}{gap}{text[first.index :]}"


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)
