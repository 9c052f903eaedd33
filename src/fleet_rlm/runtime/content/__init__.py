"""Large inputs and outputs by content: contexts, citations, blobs."""
