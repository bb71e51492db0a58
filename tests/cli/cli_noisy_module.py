"""Prints while it is imported."""

import os

print("imported")
os.write(1, b"imported\n")


def same(text: str) -> str:
    return text
