"""GGUF models on this machine, by llama.cpp."""
