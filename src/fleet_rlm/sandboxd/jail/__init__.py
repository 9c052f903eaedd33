"""The jail: a namespace sandbox per workspace, forked from a warm process. Public names: `spec` and `warm`."""
