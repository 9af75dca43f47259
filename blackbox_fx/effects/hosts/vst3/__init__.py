"""VST3 plugins, and AudioUnits on macOS, hosted by pedalboard."""
