"""A Daytona-compatible sandbox server for one machine. Imports nothing else of fleet_rlm."""
