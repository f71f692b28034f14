"""The process that those which train are forked from begins with this: what takes each of them seconds, once."""

import atexit
import os

import ffdi.engines.process  # noqa: F401

atexit.register(os._exit, 0)  # to clear away what torch has loaded takes seconds
