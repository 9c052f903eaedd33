"""What the routers ask of the runtime, without HTTP in it."""
