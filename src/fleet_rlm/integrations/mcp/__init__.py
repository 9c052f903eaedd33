"""Tools of MCP servers: the one place that speaks the Model Context Protocol as a client.

The SDK is the extra `mcp` and is imported when a server is first needed.
"""
