"""What runs in the warm process and in the jails: standard library only, relative imports only.

The warm process loads this package under another name and without the rest of fleet_rlm, see `boot.py`.
"""
