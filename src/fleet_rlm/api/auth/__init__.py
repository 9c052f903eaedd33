"""Who may talk to the workspace: the person at this machine, by cookie or token, from its own page."""
