"""From corrected images to flux: apertures, PSF fit, contamination, quality."""
