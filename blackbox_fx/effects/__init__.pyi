# Every public name, once: __init__.py loads each on first use, and type checkers read this file.
from . import hosts as hosts
from .base import Effect as Effect
from .functions import function as function
from .loading import load as load
from .rack import Rack as Rack
from .request import RenderRequest as RenderRequest
from .request import Settings as Settings
from .scanning import Scanned as Scanned
from .scanning import installed as installed
from .scanning import scan as scan
