"""How the scene is measured: pointing, stars, PSF and positions."""
