"""Losses between two recordings."""

from blackbox_fx.losses.spectral import MultiResolutionSTFT as MultiResolutionSTFT
