"""Programs that the server runs inside a sandbox, by their source; standard library only, imported by nobody."""
