"""LADSPA plugins, hosted here through ctypes."""
