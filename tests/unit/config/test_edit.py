"""One key is set in a configuration that a person wrote; every other character stays."""

import pytest
import yaml

from flywheel.config.edit import with_filter_file
from flywheel.errors import ConfigError

WRITTEN = """\
# our flow
flow: triage   # the old one
quality:
    # enough for now
    min_examples: 10
    reward: {epochs: 1}
training: {epochs: 1}
"""


@pytest.mark.parametrize(
    "text",
    [
        WRITTEN,
        WRITTEN.replace("    min_ex", "    filter_file: old.yaml  # from May\n    min_ex"),
        "flow: x\n",
        "flow: x",
        "",
        "# nothing yet\n",
        "quality: {min_examples: 3}\nflow: x\n",
        "quality: {filter_file: 'old.yaml', min_examples: 3}\n",
        "{quality: {min_examples: 3}}\n",
    ],
)
def test_the_key_is_set_and_all_else_means_the_same(text):
    changed = with_filter_file(text, "a dir/it's: new.yaml")
    before, after = yaml.safe_load(text) or {}, yaml.safe_load(changed)
    assert after["quality"].pop("filter_file") == "a dir/it's: new.yaml"
    before.setdefault("quality", {}).pop("filter_file", None)
    assert after == before


def test_comments_and_layout_stay():
    changed = with_filter_file(WRITTEN, "f.yaml")
    assert changed == WRITTEN.replace("    min_ex", '    filter_file: "f.yaml"\n    min_ex')
    assert with_filter_file(changed, "f.yaml") == changed


@pytest.mark.parametrize("text", ["quality:\n", "quality: [1]\n", "{flow: x}\n"])
def test_what_a_program_cannot_change_is_said(text):
    with pytest.raises(ConfigError, match=r'write in it: filter_file: "f\.yaml"'):
        with_filter_file(text, "f.yaml")
