// What the sources here and DPF include of the system, which tests/odd_plugins.py compiles once.
#include <algorithm>
#include <atomic>
#include <clocale>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <pthread.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>
