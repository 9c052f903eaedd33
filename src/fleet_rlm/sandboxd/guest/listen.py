"""Runs inside a jail, as a file given to `python3 -I -S -c`: listens on a free port of the jail's own loopback and
hands the listening socket out over descriptor 3. The server outside accepts on it; no process stays for it."""

import socket


def main() -> None:
    """Send the socket."""
    with socket.socket(fileno=3) as out, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        socket.send_fds(out, [b"x"], [listener.fileno()])


if __name__ == "__main__":
    main()
