"""Neural proxies: nets that imitate effects, trained, scored and kept."""
