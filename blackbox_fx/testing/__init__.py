"""For tests of extensions: the simplest effect, one that misbehaves, a pool that records, and contracts.

A contract raises AssertionError, with a sentence, where an estimator, an audio rule or a pool does not keep what its
base class promises; `check_effect` does the same for effects.
"""

from blackbox_fx.testing.contracts import check_audio_rule as check_audio_rule
from blackbox_fx.testing.contracts import check_estimator as check_estimator
from blackbox_fx.testing.contracts import check_pool as check_pool
from blackbox_fx.testing.effects import Gain as Gain
from blackbox_fx.testing.effects import Misbehaving as Misbehaving
from blackbox_fx.testing.pools import RecordingPool as RecordingPool
