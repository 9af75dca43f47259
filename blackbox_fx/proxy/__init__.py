"""Neural proxies: nets trained to give the output of effects."""
