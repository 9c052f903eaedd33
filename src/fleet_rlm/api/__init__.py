"""Transport: a thin FastAPI and WebSocket shell over the runtime. It decides nothing about tasks."""
