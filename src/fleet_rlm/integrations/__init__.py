"""Everything that talks to a world outside: sandboxes, databases, tracing. They do not import each other."""
