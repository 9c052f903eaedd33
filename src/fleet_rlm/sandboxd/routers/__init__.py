"""The routes of the API, one room per subject."""
