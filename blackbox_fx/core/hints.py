"""Marks for type checkers, without the package that has them: it would slow the start of every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import override as override
else:

    def override(method: Any) -> Any:
        """Says that a method replaces one of a base class."""
        return method
