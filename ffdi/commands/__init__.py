"""The commands, one file each: `run` takes the options of the command.

Modules that import torch, which takes seconds, are imported inside functions.
"""
