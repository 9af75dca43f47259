"""What networks are trained to do, a folder each: data, network, loss, page and commands."""
