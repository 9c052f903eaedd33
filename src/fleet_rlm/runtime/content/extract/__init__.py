"""Documents to text, in a process of its own: `python -P -m fleet_rlm.runtime.content.extract`.

The host side is `reader.py`; everything else here runs in the child, which has no secret in its environment and is
bounded in memory, time and output. A hostile file can at most end the child.
"""
