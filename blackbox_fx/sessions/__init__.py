"""Sessions of other programs: songs of a console as DAWproject files and Ardour sessions, written and read."""
