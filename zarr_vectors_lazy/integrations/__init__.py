"""Entry points: what other programs and the shell start from."""
