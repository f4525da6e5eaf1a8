# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a configuration may be shown: values that can be secrets are hidden."""

from __future__ import annotations

import re
from typing import Iterable, List, Tuple

# Keys of a configuration whose values are no secrets.
HARMLESS = re.compile(
    r"action|alertmanagers|body_size_limit|evaluation_interval|follow_redirects|honor_\w+|"
    r"insecure_skip_verify|instance|job_name|label_limit|metrics_path|min_version|path_prefix|"
    r"refresh_interval|remote_timeout|sample_limit|scheme|scrape_interval|scrape_timeout|"
    r"server_name|target_label|target_limit|\w+_file"
)
# Indentation, a key with its colon, and the rest.
LINE = re.compile(r"((?: |- )*)([\w.-]+:(?= |$)|\"[\w.@ -]+\":(?= |$))?(.*)", re.DOTALL)
HIDDEN = "(hidden)"
# What a YAML parser shows of a long value.
YAML_SHOWS = 7


def view(text: str) -> Tuple[str, List[str]]:
    """Return a configuration for a person's eyes, and the values that are hidden from them.

    Each value is on one line, and is shown only where its key is known to be harmless. Comments
    are left out: nobody else's are there.
    """
    lines, hidden = [], []
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        head, key, value = LINE.findall(line)[0]
        if not value or HARMLESS.fullmatch(key[:-1]):
            lines.append(line)
        else:
            hidden.append(value.strip().strip("\"'"))
            lines.append(head + (key + " " if key else "") + HIDDEN)
    return "\n".join(lines), [value for value in hidden if value]


def without(words: str, hidden: List[str]) -> str:
    """Return words without the values that are to be hidden, as a parser quotes them."""
    for value in sorted(set(hidden), key=len, reverse=True):
        for shown in (value, value[:YAML_SHOWS] + "..."):
            quoted = r"(?<=[\"'`])%s(?=[\\\"'`])" % re.escape(shown)
            words = re.sub(quoted, HIDDEN, words)
    return words


def without_values_of(words: str, configurations: Iterable[str]) -> str:
    """Return words without what only the configurations may say."""
    return without(words, [value for text in configurations for value in view(text)[1]])
