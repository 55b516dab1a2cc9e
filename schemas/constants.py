"""Constants by definition: that pipeline and simulator share them cannot hide a mistake."""

DAY = 86400.0  # s
