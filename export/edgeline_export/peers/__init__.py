"""How other projects' converters and compilers are called, one module each; their formats are in formats/."""
