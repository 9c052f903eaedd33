"""Sandboxes by the Daytona API, and a Python session in each of them.

interpreter.DaytonaInterpreter   what DSPy sees
  session.Session                threads <-> event loop, tool calls, stopping
    channel.Channel              frames, resumed over dropped connections
      transport.Transport        the seam: direct.py on this machine, pty.py by a WebSocket, others where none passes
runtime.SandboxRuntime           makes sandboxes, stages contexts, sweeps up; by the official SDK
local_server.local_server        the local server as a child process
worker/                          the program in the sandbox
"""
