"""The kinds of sessions that commands write."""

from __future__ import annotations

import enum


class SessionKind(enum.StrEnum):
    """For which DAW a session is; none for no session."""

    NONE = "none"
    DAWPROJECT = "dawproject"
    ARDOUR = "ardour"
