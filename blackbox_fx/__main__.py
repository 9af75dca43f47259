"""`python -m blackbox_fx` is `blackbox-fx`."""

from blackbox_fx.cli.__main__ import main

main()
