"""The first import of the fork server: the libraries that each training needs. See `engines/local.py`."""

import atexit
import os

import ffdi.engines.local  # noqa: F401

atexit.register(os._exit, 0)  # an orderly exit unloads torch, which takes seconds
