"""Projects of LMMS: what they hold, and their consoles of LADSPA effects with the settings of their authors."""
