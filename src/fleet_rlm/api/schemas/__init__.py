"""Shapes of the HTTP edge; openapi.yaml is generated from them."""
