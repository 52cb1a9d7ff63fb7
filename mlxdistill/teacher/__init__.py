"""The GGUF side: a model checked, loaded, asked in waves, or replaced by answers it gave before."""
