"""Sessions of other programs: songs of a console as DAWproject files, written and read."""
