"""Training a proxy: clips and responses of the effect, objectives, the loop, and learning on while it is used."""
