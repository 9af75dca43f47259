"""What the recursive effects share: numba compiles their kernels, and ends the process if two threads enter at once.

It does so where it finds neither OpenMP nor TBB. The lock covers forward passes, so twins may render in any pool;
backward passes through twins in several threads at once are not covered.
"""

import threading

one_at_a_time = threading.Lock()
