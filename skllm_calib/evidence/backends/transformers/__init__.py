"""Models of Hugging Face, on this machine."""
