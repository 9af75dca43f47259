# Every public name, once: __init__.py loads each on first use, and type checkers read this file.
from .answering import answer as answer
from .calling import Failed as Failed
from .calling import Refused as Refused
from .calling import call as call
