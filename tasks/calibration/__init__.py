"""From telemetry to calibrated images: events, bias, gain, linearity, dark, flat."""
