"""How good a proxy is, on clips and settings that it never saw."""
