"""The parameters of an effect: their kinds, ranges and units, and their map to a vector in [0, 1]."""

from blackbox_fx.space.parameters import KINDS as KINDS
from blackbox_fx.space.parameters import Array as Array
from blackbox_fx.space.parameters import Choice as Choice
from blackbox_fx.space.parameters import Continuous as Continuous
from blackbox_fx.space.parameters import Integer as Integer
from blackbox_fx.space.parameters import Parameter as Parameter
from blackbox_fx.space.parameters import Toggle as Toggle
from blackbox_fx.space.parameters import Value as Value
from blackbox_fx.space.space import Space as Space
