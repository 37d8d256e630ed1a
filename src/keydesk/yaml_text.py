"""Core: YAML files of keys, in which every scalar is text. The file store and `keydesk import` read them."""

from __future__ import annotations

from typing import Any

import yaml

from .errors import InvalidField

SECTION = "api_keys"  # the part of a larger file that holds the keys


class TextLoader(yaml.BaseLoader):
    """YAML in which every scalar is text, so that the key 12345 or 1e10 is what it looks like, and none comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping.

        Raises:
            InvalidField: A key stands in it twice.
        """
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise InvalidField(f"line {key_node.start_mark.line + 1}", "the same entry stands here twice")
            seen.add(key if isinstance(key, str) else id(key_node))
        return dict(super().construct_mapping(node, deep=deep))
