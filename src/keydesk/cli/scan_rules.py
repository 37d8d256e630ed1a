"""Room cli: rules by which other scanners find the secrets of a desk.

For gitleaks (TOML, version 8) and TruffleHog (the YAML of its custom detectors, version 3). Both match by the shape
alone, with RE2 expressions; neither can work out our checksum.
"""

from __future__ import annotations

from ..keys.secret import CHECKSUM_CHARACTERS, RANDOM_CHARACTERS, Environment

TOOLS = ("gitleaks", "trufflehog")

# In quotes of either language that leave backslashes alone: nothing in a prefix ends them.
_GITLEAKS = """\
# Keep gitleaks' own rules too: add the table [extend] with useDefault = true.
[[rules]]
id = "keydesk-{id}"
description = "API key of Keydesk with the prefix {prefix}; revoke it with: keydesk scan --revoke"
regex = '''{shape}'''
keywords = [{keywords}]
"""
_TRUFFLEHOG = """\
detectors:
  - name: keydesk-{id}
    keywords: [{keywords}]
    regex:
      secret: '{shape}'
"""


def rules_for(tool: str, prefix: str) -> str:
    """Return the configuration of a scanner that finds the secrets under a prefix.

    Args:
        tool: `gitleaks` or `trufflehog`.
        prefix: As in `SecretFormat`.
    """
    length = RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
    return (_GITLEAKS if tool == "gitleaks" else _TRUFFLEHOG).format(
        id=prefix.lower().replace("_", "-"),
        prefix=prefix,
        # Both tools put texts into lower case before they look for these.
        keywords=", ".join(f'"{prefix.lower()}_{environment}_"' for environment in Environment),
        shape=rf"\b({prefix}_(?:live|test)_[0-9A-Za-z]{{{length}}})\b",
    )
