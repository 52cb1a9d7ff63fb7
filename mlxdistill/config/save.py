"""A configuration as YAML that every reader takes for the same values.

Whatever is not a plain word is quoted: bare, `1e3` is a number to YAML 1.2 and text to 1.1, and `no` the other way.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from mlxdistill.config.models import Config

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_READ_OTHERWISE = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = _WORD.fullmatch(text) and text.lower() not in _READ_OTHERWISE
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def to_yaml(config: Config) -> str:
    """The configuration with every value written out. `load_config` reads the same configuration from it."""
    values = config.model_dump(mode="json")
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
