"""FITS and TOML files and the disk below them."""
