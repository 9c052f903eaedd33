"""The socket: endpoint.py holds its life, stream.py brings the journal to it, frames.py names what goes over it."""
