"""Processes that may crash or hang: what they may use, and how to get an answer from one."""

from blackbox_fx.isolation.calling import Failed as Failed
from blackbox_fx.isolation.calling import Refused as Refused
from blackbox_fx.isolation.calling import answer as answer
from blackbox_fx.isolation.calling import call as call
