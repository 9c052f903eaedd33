"""The command line. Commands import what they need inside their functions: `fleet --help` must stay at 0.2 s.

That is the one documented exception to "no first-party import inside a function".
"""
