"""A pool on the machines of a Ray cluster; needs `pip install 'blackbox_fx[ray]'`."""
